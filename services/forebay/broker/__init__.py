"""The way between processes: the protocols and the values they speak in.

The broker holds only what can run now, as small messages that name a job in the store. If every
queue is wiped nothing is lost, only late. `publisher.py` and `consumer.py` are the real ones on
RabbitMQ; `forebay.testing.broker` is the shipped fake; tests/contract runs one suite over both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from forebay.jobs import JobKind, Lane


@dataclass(frozen=True, slots=True)
class JobMessage:
    """What travels: which job may run now. Under 1 KiB on the wire."""

    job_id: str
    generation: int
    kind: JobKind
    lane: Lane
    attempt: int = 0
    """Attempts made when it was published; for the eye of an operator, never trusted."""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that cannot be read, and why."""

    reason: str


class NotPublished(StrEnum):
    """Why a message is not in the broker; the relay will try again."""

    UNAVAILABLE = "unavailable"
    """No connection, or it was lost before the confirm."""
    BLOCKED = "blocked"
    """The broker blocks publishers (memory or disk alarm)."""
    RETURNED = "returned"
    """No queue is bound for it."""
    NACKED = "nacked"
    """The queue is full."""
    TIMEOUT = "timeout"
    """No confirm in time; the message may be there or not."""


class Publisher(Protocol):
    """Puts messages into the broker, confirmed."""

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        """Publish all, pipelined; per message None when the broker confirmed it durable.

        Never raises for the broker's sake and never waits longer than the publish timeout.
        """


class Queues(Protocol):
    """Tells what waits in the broker."""

    async def waiting(self, kind: JobKind, lane: Lane) -> int | None:
        """Messages ready for a worker; None when the broker cannot be asked now."""


class DeadReason(StrEnum):
    """Why a message is in a dead queue; the header `x-forebay-reason`."""

    MALFORMED = "malformed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    UNKNOWN_JOB = "unknown_job"
    INVALID_INPUT = "invalid_input"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is put into a dead queue without having been delivered just now."""

    message: JobMessage
    reason: DeadReason
    detail: str
    """For an operator: what happened."""


class DeadLetters(Protocol):
    """Puts what is beyond help where an operator looks."""

    async def bury(self, letters: Sequence[DeadLetter]) -> Sequence[NotPublished | None]:
        """Put each into the dead queue of its kind, the reason as headers; per letter as `publish`.

        Limit: nobody tries again. The store says which jobs are dead letters; the queue is only an
        operator's window, and what is not confirmed (or what a dying caller did not send) is
        missing from it.
        """


class Delivery(Protocol):
    """One message in the hands of one worker. Settle it exactly once, last.

    The three ways to settle never raise: on a dead channel the settle is counted and forgotten, the
    broker delivers again and the claim absorbs it.
    """

    @property
    def message(self) -> JobMessage | Malformed:
        """What it says."""

    @property
    def lane(self) -> Lane:
        """The lane of the queue it came from."""

    @property
    def redelivered(self) -> bool:
        """Whether the broker delivered it before."""

    async def ack(self) -> None:
        """Done with it."""

    async def give_back(self) -> None:
        """Back to the queue, for another worker."""

    async def dead_letter(self, reason: DeadReason, detail: str) -> None:
        """Into the dead queue of its kind with the reason as headers, confirmed; then done with it.

        When the dead letter cannot be confirmed the message goes back to the queue instead.
        """


Receive = Callable[[Delivery], None]
"""Takes a delivery and returns at once; called from the loop, must not block or raise."""


class Consumer(Protocol):
    """Receives the messages of one kind from all its lanes."""

    async def run(self, receive: Receive) -> None:
        """Consume until `stop` or cancellation, through any number of broken connections.

        A queue that is not there is waited for, and the other lanes are consumed meanwhile: in a
        rollout the worker may come before `forebay topology apply`. Raises `BrokerUnavailable` when
        the consumer stays deaf after being rebuilt twice.
        """

    async def stop(self) -> None:
        """Receive nothing more (basic.cancel). Deliveries in hand can still be settled."""

    async def close(self) -> None:
        """Close the connection; what is not settled goes back to the queue."""

    @property
    def lacking(self) -> str | None:
        """Why not every lane is being consumed now; None when all are: the worker's readiness."""
