"""Named places where a process can be told to die, so that a test can see what a crash leaves.

Theory of operation. Every step that leaves something behind (a write, a publish, a settle) has a
`crashpoint` beside it. Unarmed, which is always outside the chaos tests, it compares one attribute.
Armed by `FOREBAY_CRASHPOINT=worker.after_claim:3`, the third time that this place is reached the
process notes it in the file of `FOREBAY_CRASHPOINT_LOG` and kills itself with SIGKILL: no handler,
no `finally` and no exit hook runs, as when a machine is gone. With `:term` at the end it sends
itself SIGTERM instead. One stray variable must not do that to a process people depend on: without
the file, which every test gives, nothing is armed and the process refuses to start.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class CrashPoint(StrEnum):
    """Every place there is; the chaos tests must die at each."""

    INGRESS_BEFORE_INSERT = "ingress.before_insert"
    """A batch of accepts is taken, nothing is written."""
    INGRESS_AFTER_INSERT = "ingress.after_insert"
    """The batch is durable; no caller has its 202."""
    INGRESS_AFTER_ANSWER = "ingress.after_answer"
    """The 202 is handed to the socket; the job may not be published."""
    INGRESS_BEFORE_PUBLISH = "ingress.before_publish"
    """Accepted jobs are taken to be published."""
    INGRESS_AFTER_PUBLISH = "ingress.after_publish"
    """The broker confirmed; the store does not know."""
    INGRESS_BEFORE_MARK = "ingress.before_mark"
    """What was confirmed is taken to be marked as published."""

    RELAY_AFTER_DUE = "relay.after_due"
    """Jobs whose time came are queued in the store, and not published."""
    OUTBOX_BEFORE_PUBLISH = "outbox.before_publish"
    """A loop of the reconciler has chosen what to publish."""
    OUTBOX_AFTER_PUBLISH = "outbox.after_publish"
    """The broker confirmed it; the store does not know."""
    REFILLER_AFTER_LOOK = "refiller.after_look"
    """An empty queue was found, and jobs that should be in it."""
    RESCUER_BEFORE = "rescuer.before"
    """A turn of the rescuer begins."""
    RESCUER_AFTER_RESCUE = "rescuer.after_rescue"
    """Leases that ran out are taken back; nothing else of the turn is done."""
    RESCUER_AFTER_EXPIRE = "rescuer.after_expire"
    """Overdue jobs are expired."""
    PRUNER_AFTER_LOOK = "pruner.after_look"
    """Chunks that no job points to are found, and not removed."""

    NOTIFIER_BEFORE_DELIVERIES = "notifier.before_deliveries"
    """A job has its end; nobody was told of it. Passed by workers and the reconciler."""
    NOTIFIER_BEFORE_MARK = "notifier.before_mark"
    """The deliveries are stored; the job does not know."""
    WEBHOOK_AFTER_POST = "webhook.after_post"
    """The receiver answered; nobody knows."""

    WORKER_AFTER_RECEIVE = "worker.after_receive"
    """A message is in hand; the store does not know."""
    WORKER_AFTER_CLAIM = "worker.after_claim"
    """The attempt is counted, the lease is held, the provider was not called."""
    WORKER_DURING_CALL = "worker.during_call"
    """The provider is being called; reached at each renewal of the lease."""
    WORKER_BEFORE_WRITE = "worker.before_write"
    """The provider answered; nobody knows."""
    WORKER_AFTER_CHUNKS = "worker.after_chunks"
    """A large result is written beside its job, and the job does not point to it."""
    WORKER_BEFORE_ACK = "worker.before_ack"
    """The end of the attempt is stored; the message is not settled."""
    WORKER_BEFORE_DEAD_LETTER = "worker.before_dead_letter"
    """The job is failed in the store; its dead letter is not published."""
    WORKER_AFTER_DEAD_LETTER = "worker.after_dead_letter"
    """The dead letter is confirmed; the message it came from is not settled."""


class Action(StrEnum):
    """What an armed place does to its process."""

    KILL = "kill"
    """SIGKILL: the crash."""
    TERM = "term"
    """SIGTERM: a deployment that happens to come at this step. The process goes on into its drain,
    and the place does nothing more."""


@dataclass(slots=True)
class _Armed:
    """What the process was told; `point` None is never reached."""

    point: CrashPoint | None = None
    hits_left: int = 0
    action: Action = Action.KILL
    log: Path = Path()


_armed = _Armed()


def arm(spec: str, log: Path | None) -> None:
    """Act at a place: `<name>` at its first hit, `<name>:<n>` at the n-th, `<name>:<n>:term`.

    Raises `ValueError`, saying what may be said, for a name, count or action that makes no sense,
    and without a file to note it in.
    """
    if log is None or log.is_dir():  # an empty setting is the folder one is in
        raise ValueError(
            "it makes the process kill itself, which only a test wants; remove it, or name the "
            "file to note it in with FOREBAY_CRASHPOINT_LOG"
        )
    name, _, rest = spec.partition(":")
    count, _, action = rest.partition(":")
    _armed.point = CrashPoint(_one_of(CrashPoint, name))
    _armed.hits_left = _hits(count or "1")
    _armed.action = Action(_one_of(Action, action or Action.KILL))
    _armed.log = log


def _one_of(known: type[StrEnum], said: str) -> str:
    if said not in set(known):
        raise ValueError(f"'{said}' is not known; it can be {', '.join(known)}")
    return said


def _hits(said: str) -> int:
    if not said.isdecimal() or int(said) < 1:
        raise ValueError(f"a place is reached once or more, not '{said}' times")
    return int(said)


def crashpoint(point: CrashPoint) -> None:
    """Die here if the process was told to."""
    if _armed.point is point:
        _armed.hits_left -= 1
        if _armed.hits_left == 0:
            _act(point)


def _act(point: CrashPoint) -> None:
    with _armed.log.open("a") as log:  # closed, so the kernel has it: SIGKILL takes nothing
        log.write(f"{point} {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL if _armed.action is Action.KILL else signal.SIGTERM)
