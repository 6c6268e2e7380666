"""What becomes of a job in memory, event by event: pure.

The same as `updates.py` says to MongoDB; the contract suite holds the two together.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from forebay.jobs import (
    DELIVERY_PREFIX,
    Attempt,
    Event,
    Job,
    JobEnd,
    JobState,
    OnUnknown,
    ResultRef,
    sources,
    transition,
)
from forebay.store import Ending, JobQuery, JobRef, updates
from forebay.store.documents import utf8
from forebay.store.results import CHUNK_BYTES, INLINE_BYTES

_MILLISECOND = timedelta(milliseconds=1)


def is_listed(job: Job, query: JobQuery) -> bool:
    """Whether a list shows it, of those that are of its tenant and its batch."""
    least, most = query.created_from, query.created_before
    beyond = query.beyond
    if beyond is not None and (job.id <= beyond if query.oldest_first else job.id >= beyond):
        return False
    if query.deliveries != job.id.startswith(DELIVERY_PREFIX):
        return False
    return (
        (not query.states or job.state in query.states)
        and (not query.kinds or job.kind in query.kinds)
        and (not query.tags or not query.tags.isdisjoint(job.tags))
        and query.all_tags.issubset(job.tags)
        and (not query.providers or any(a.provider in query.providers for a in job.history))
        and (not query.errors or (job.error is not None and job.error.code in query.errors))
        and query.dead_lettered in {None, job.dead_lettered}
        and (least is None or job.created_at >= least)
        and (most is None or job.created_at < most)
    )


def ended(job: Job, ending: Ending, now: datetime) -> Job:
    """After the end of its attempt."""
    target = updates.destination(ending.event)
    after = with_attempt(job, ending.attempt).evolve(
        lease=None,
        attempts=max(job.attempts - 1, 0) if ending.uncount else job.attempts,
        dead_lettered=ending.dead_lettered,
        usage=ending.usage or job.usage,
        error=ending.error or job.error,
    )
    if target is JobState.SUCCEEDED:
        small = len(utf8(ending.result or "")) <= INLINE_BYTES
        after = after.evolve(error=None, result=ending.result if small else None, result_ref=None)
    if target.terminal:
        return terminal(after, target, now)
    after = after.evolve(published_at=None)
    if target is JobState.QUEUED:
        return after.evolve(state=target, queued_at=now)
    return after.evolve(state=target, not_before=later(now, ending.wait_s))


def queued(job: Job, now: datetime) -> Job:
    """When its time has come."""
    state = transition(job.state, Event.DUE)
    return job.evolve(state=state, queued_at=now, not_before=None, published_at=None)


def retried(job: Job, now: datetime) -> Job:
    """When it was asked to run again."""
    return job.evolve(
        state=transition(job.state, Event.REPLAYED),
        generation=job.generation + 1,
        attempts=0,
        rounds=job.rounds + 1,
        queued_at=now,
        dead_lettered=False,
        **dict.fromkeys(updates.OF_ONE_GENERATION),
    )


def canceled(job: Job, now: datetime) -> Job:
    """When its caller asked to stop."""
    state = transition(job.state, Event.CANCEL)
    if not state.terminal:
        return job.evolve(state=state)
    return terminal(job, state, now).evolve(error=updates.CANCELED, not_before=None)


def rescued(job: Job, now: datetime) -> Job:
    """When its lease ran out."""
    after = with_attempt(job, lost_attempt(job, now)).evolve(
        lease=None, published_at=None, dead_lettered=False
    )
    spent = job.attempts >= job.max_attempts
    if job.state not in sources(Event.LEASE_LOST, JobState.QUEUED):
        state, error = transition(job.state, Event.LEASE_LOST), updates.CANCELED
    elif job.on_unknown is OnUnknown.FAIL:
        state, error = transition(job.state, Event.FAILED), updates.UNKNOWN_OUTCOME
    elif spent:
        state, error = transition(job.state, Event.FAILED), updates.EXHAUSTED
    else:
        return after.evolve(state=transition(job.state, Event.LEASE_LOST), queued_at=now)
    dead = error is updates.EXHAUSTED
    return terminal(after, state, now).evolve(error=error, dead_lettered=dead)


def terminal(job: Job, state: JobState, now: datetime) -> Job:
    """At its end."""
    kept_until = now + timedelta(seconds=job.result_ttl_s)
    end = (JobEnd(job.generation, state, now),) if job.notifies else ()
    return job.evolve(
        state=state, finished_at=now, expires_at=kept_until, untold=(*job.untold, *end)
    )


def with_attempt(job: Job, attempt: Attempt) -> Job:
    """With one more record in its history."""
    return job.evolve(history=(*job.history, attempt)[-updates.MOST_HISTORY :])


def lost_attempt(job: Job, now: datetime) -> Attempt:
    """The record of an attempt that nobody ended."""
    started = job.started_at or now
    waited = started - (job.queued_at or started)
    return Attempt(
        n=job.attempts,
        generation=job.generation,
        outcome="lease_lost",
        worker=job.lease.worker if job.lease is not None else "",
        started_at=started,
        finished_at=now,
        queue_wait_ms=max(waited // _MILLISECOND, 0),
    )


def tokens(job: Job) -> Collection[str]:
    """Under which tokens a large result of the job may be wanted."""
    return [held.token for held in (job.lease, job.result_ref) if held is not None]


def same_stay(job: Job, ref: JobRef) -> bool:
    """Whether the reference means this very stay in `queued`."""
    if (job.generation, job.attempts) != (ref.generation, ref.attempts):
        return False
    if ref.queued_at is None or job.queued_at is None:
        return ref.queued_at is None
    return abs(job.queued_at - ref.queued_at) < _MILLISECOND


def pointer(token: str, result: str) -> ResultRef:
    """The pointer to a large result."""
    size = len(utf8(result))
    return ResultRef(token, -(-size // CHUNK_BYTES), size)


def later(now: datetime, seconds: float) -> datetime:
    """That many seconds later, to the millisecond."""
    return now + timedelta(milliseconds=round(seconds * 1000))
