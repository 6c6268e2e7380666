"""Whether a job went only the ways that are allowed: pure, over snapshots in the order they were.

`TRANSITIONS` says which state follows which; this says the rest of it: what an attempt, a lease, a
result and a generation may do on the way. Each breach is a sentence. It judges every step by the
two snapshots around it, so no snapshot may be missing.

    path_breaches([Snapshot.of(job) for job in every_version])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from forebay.jobs import TRANSITIONS, Attempt, Event, Job, JobState, OnUnknown

LEASED = frozenset({JobState.RUNNING, JobState.CANCELING})
UNCOUNTED = frozenset({"snoozed", "handed_back"})
"""The outcomes of attempts in which no call was made, so that they may be given back."""
ALWAYS_SAY_WHY = frozenset({JobState.FAILED, JobState.EXPIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What matters of a job at one moment."""

    state: JobState
    generation: int
    attempts: int
    max_attempts: int
    token: str | None = None
    """The lease's."""
    lease_until: datetime | None = None
    started_at: datetime | None = None
    """When the present or last attempt was claimed, by the store's clock."""
    result: str | None = None
    """Something that differs when results do; None when there is none."""
    has_error: bool = False
    repeatable: bool = True
    """Whether it may be called again when nobody knows what the last call did."""
    last: Attempt | None = None
    """The latest record in the history."""
    records: int = 0
    """How many records there are."""

    @classmethod
    def of(cls, job: Job) -> Snapshot:
        """The snapshot of a job as it is now."""
        ref = job.result_ref
        return cls(
            state=job.state,
            generation=job.generation,
            attempts=job.attempts,
            max_attempts=job.max_attempts,
            token=None if job.lease is None else job.lease.token,
            lease_until=None if job.lease is None else job.lease.until,
            started_at=job.started_at,
            result=job.result if ref is None else f"beside the job, of {ref.token}",
            has_error=job.error is not None,
            repeatable=job.on_unknown is OnUnknown.RETRY,
            last=job.history[-1] if job.history else None,
            records=len(job.history),
        )


def path_breaches(snapshots: Iterable[Snapshot]) -> list[str]:
    """Every breach of a job's whole life, from its first snapshot on."""
    path = [*snapshots]
    if not path:
        return []
    found = [*birth_breaches(path[0]), *standing_breaches(path[0])]
    for before, after in pairwise(path):
        found += [*step_breaches(before, after), *standing_breaches(after)]
    return found


def birth_breaches(first: Snapshot) -> Iterator[str]:
    """What is wrong with the way a job came into the store."""
    if first.state not in {JobState.SCHEDULED, JobState.QUEUED}:
        yield f"it was born {first.state}"
    if (first.generation, first.attempts) != (1, 0):
        yield f"it was born in generation {first.generation} with {first.attempts} attempts"


def standing_breaches(now: Snapshot) -> Iterator[str]:
    """What is wrong with a snapshot, whatever came before it."""
    if now.attempts > now.max_attempts:
        yield f"{now.attempts} attempts, and {now.max_attempts} are allowed"
    if now.attempts < 0:
        yield f"{now.attempts} attempts"
    leased = now.token is not None
    if leased and now.state.terminal:
        yield f"{now.state} with a lease: a terminal job has none"
    elif leased != (now.state in LEASED):
        yield f"{now.state} {'with' if leased else 'without'} a lease"
    if now.state is JobState.SUCCEEDED and now.result is None:
        yield "succeeded without a result"
    if now.state is not JobState.SUCCEEDED and now.result is not None:
        yield f"{now.state} with a result"
    if now.state in ALWAYS_SAY_WHY and not now.has_error:
        yield f"{now.state} without an error"
    if now.state is JobState.SUCCEEDED and now.has_error:
        yield "succeeded with an error"


def step_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """What is wrong with the step from one snapshot to the next one."""
    if before.generation != after.generation:
        yield from _replay_breaches(before, after)
        return
    # A claim repeated after an unknown answer takes its own lapsed lease again, by its token.
    anew = (after.token, after.started_at) != (before.token, before.started_at)
    taken = after.token is not None and anew
    if before.state.terminal:
        yield from _terminal_breaches(before, after)
    elif taken:
        yield from _claim_breaches(before, after)
    elif after.state is not before.state:
        yield from _move_breaches(before, after)
    if not taken:
        yield from _count_breaches(before, after)


def _replay_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    there, then = before.generation, after.generation
    if then != there + 1:
        yield f"generation {there} was followed by {then}"
    if TRANSITIONS[before.state].get(Event.REPLAYED) is not after.state:
        yield f"{before.state} became {after.state} with a new generation"
    if after.attempts != 0:
        yield f"generation {then} began with {after.attempts} attempts"


def _terminal_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    if after.state is not before.state:
        yield f"{before.state} became {after.state}: a terminal state is final"
    elif after.result != before.result:
        yield "two different results"


def _claim_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """A lease was given; over one that ran out this is two events in one step."""
    at_hand = before.state
    if before.token is not None:
        lost = TRANSITIONS[at_hand].get(Event.LEASE_LOST)
        if lost is None or Event.CLAIMED not in TRANSITIONS[lost]:
            yield f"a {at_hand} job was claimed over its lease"
        elif _live(before, after.started_at):
            yield "a new lease was given while the old one was live"
        elif not before.repeatable:
            yield "it must not be repeated, and was claimed again after its attempt was lost"
        at_hand = lost or at_hand
    if TRANSITIONS[at_hand].get(Event.CLAIMED) is not after.state:
        yield f"{before.state} became {after.state} with a new lease"
    if after.attempts != before.attempts + 1:
        yield f"a claim made {after.attempts} attempts of {before.attempts}"


def _move_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    events = {e for e, state in TRANSITIONS[before.state].items() if state is after.state}
    if not events:
        yield f"{before.state} became {after.state}: there is no such step"
    elif events == {Event.CLAIMED}:
        yield f"{before.state} became {after.state} without a new lease"
    record = _new_record(before, after)
    if record is not None and record.outcome == "lease_lost":
        if _live(before, record.finished_at):
            yield "it was taken back while its lease was live"
        if after.state is JobState.QUEUED and not before.repeatable:
            yield "it must not be repeated, and was queued again after its attempt was lost"
        if after.state is JobState.FAILED and before.repeatable and _has_attempts_left(before):
            yield "it failed for one lost attempt, and had others left"


def _count_breaches(before: Snapshot, after: Snapshot) -> Iterator[str]:
    if after.attempts == before.attempts:
        return
    record = _new_record(before, after)
    given_back = (
        after.attempts == before.attempts - 1
        and before.state in LEASED
        and after.token is None
        and (record is None or record.outcome in UNCOUNTED)
        and not after.state.terminal
    )
    if not given_back:
        yield (
            f"{before.attempts} attempts became {after.attempts}, and nothing was claimed or given "
            "back"
        )


def _has_attempts_left(before: Snapshot) -> bool:
    return before.state is JobState.RUNNING and before.attempts < before.max_attempts


def _new_record(before: Snapshot, after: Snapshot) -> Attempt | None:
    """The record that this step wrote. The history keeps the latest only: its length can stay."""
    written = after.records > before.records or after.last != before.last
    return after.last if written else None


def _live(before: Snapshot, at: datetime | None) -> bool:
    return before.lease_until is not None and at is not None and before.lease_until > at
