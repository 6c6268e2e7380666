"""The shipped fake: the same promises in one process's memory, for tests and simulations.

Its clock is an argument, so a simulation can move time. Nothing here awaits, so every method is one
step of the event loop, as a compare-and-set is one step of the database. It passes the contract
suite of the real one. What it does not do: forget jobs after their retention, or outlive its
process.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from forebay.errors import OtherGeneration
from forebay.jobs import (
    Attempt,
    Event,
    Job,
    JobState,
    Lease,
    OnUnknown,
    ResultRef,
    expiry_error,
    sources,
    transition,
)
from forebay.store import (
    Backlog,
    Claimed,
    Ending,
    Inserted,
    InsertResult,
    JobQuery,
    JobRef,
    KeyTaken,
    Pruned,
    Refusal,
    Refused,
    Renewal,
    Rescue,
    Route,
    updates,
)
from forebay.store.documents import as_stored, utf8
from forebay.store.refusals import lapsed, out_of_time, refusal, refused
from forebay.store.results import CHUNK_BYTES, INLINE_BYTES

_MILLISECOND = timedelta(milliseconds=1)


class MemoryJobStore:
    """`JobStore` without a database."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._last_tokens: dict[str, str] = {}
        self._large: dict[tuple[str, str], str] = {}

    async def prepare(self) -> None:
        """Memory needs nothing."""

    async def ping(self) -> None:
        """Memory always answers."""

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        """See `JobStore.insert`."""
        return [self._insert(as_stored(job)) for job in jobs]

    def _insert(self, job: Job) -> InsertResult:
        if job.id in self._jobs:
            return Inserted()
        if job.idempotency is not None:
            key = (job.tenant, job.idempotency.key)
            if self._keys.setdefault(key, job.id) != job.id:
                return KeyTaken()
        self._jobs[job.id] = job
        return Inserted()

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore.get`."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.tenant == tenant else None

    async def result(self, job: Job) -> str | None:
        """See `JobStore.result`."""
        if job.result is not None or job.result_ref is None:
            return job.result
        return self._large.get((job.id, job.result_ref.token))

    async def find_by_key(self, tenant: str, key: str) -> Job | None:
        """See `JobStore.find_by_key`."""
        job_id = self._keys.get((tenant, key))
        return None if job_id is None else self._jobs[job_id]

    async def list(self, query: JobQuery) -> Sequence[Job]:
        """See `JobStore.list`."""
        found = (
            job.evolve(input="", result=None)
            for _, job in sorted(self._jobs.items(), reverse=True)
            if job.tenant == query.tenant
            and (not query.states or job.state in query.states)
            and (not query.kinds or job.kind in query.kinds)
            and query.dead_lettered in {None, job.dead_lettered}
            and (query.before is None or job.id < query.before)
        )
        return [*itertools.islice(found, query.limit)]

    async def look_up(self, job_ids: Collection[str]) -> Sequence[Job]:
        """See `JobStore.look_up`."""
        found = (self._jobs[job_id] for job_id in frozenset(job_ids) if job_id in self._jobs)
        return [self._shortened(job) for job in found]

    def _shortened(self, job: Job) -> Job:
        ref = job.result_ref
        there = ref is not None and (job.id, ref.token) in self._large
        return job.evolve(
            input="",
            result=None if job.result is None else "",
            result_ref=ref if there else None,
        )

    async def finished(self, job_ids: Collection[str]) -> frozenset[str]:
        """See `JobStore.finished`."""
        return frozenset(i for i in job_ids if i not in self._jobs or self._jobs[i].done)

    async def claim(
        self,
        ref: JobRef,
        worker: str,
        lease_s: float,
        token: str | None = None,
        *,
        suspects: bool = True,
    ) -> Claimed | Refused:
        """See `JobStore.claim`."""
        job, now = self._jobs.get(ref.id), self._now()
        if job is None:
            return Refused(Refusal.UNKNOWN)
        reason = refusal(job, ref.generation, now, suspects=suspects)
        if reason is not None:
            mine = job.lease is not None and job.lease.token == token
            return Claimed(job) if mine else refused(job, reason)
        if token is not None and self._last_tokens.get(ref.id) == token:
            return Refused(Refusal.BUSY)
        if job.state in updates.LAPSABLE:
            job = _with_attempt(job, _lost_attempt(job, now))
        lease = Lease(token or secrets.token_hex(16), worker, _later(now, lease_s))
        return Claimed(
            self._put(
                job.evolve(
                    state=JobState.RUNNING,
                    attempts=job.attempts + 1,
                    lease=lease,
                    started_at=now,
                    not_before=None,
                )
            )
        )

    async def postpone(self, ref: JobRef, wait_s: float) -> None:
        """See `JobStore.postpone`."""
        job = self._jobs.get(ref.id)
        if job is None or job.generation != ref.generation:
            return
        if job.state in sources(Event.POSTPONED, JobState.RETRYING):
            due = _later(self._now(), wait_s)
            self._put(job.evolve(state=JobState.RETRYING, not_before=due, published_at=None))

    async def renew(self, job_id: str, token: str, lease_s: float) -> Renewal:
        """See `JobStore.renew`."""
        job = self._held(job_id, token)
        if job is None or job.lease is None:
            return Renewal.LOST
        lease = Lease(token, job.lease.worker, _later(self._now(), lease_s))
        self._put(job.evolve(lease=lease))
        return Renewal.CANCELING if job.state is JobState.CANCELING else Renewal.HELD

    async def finish(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """See `JobStore.finish`."""
        job = self._held(job_id, token)
        if job is None:
            done_before = self._last_tokens.get(job_id) == token
            return self._jobs.get(job_id) if done_before else None
        updates.check_endable(job, ending)
        ended = as_stored(_ended(job, ending, self._now()))
        large = len(utf8(ending.result or "")) > INLINE_BYTES
        if large and ending.result is not None:
            self._large[job_id, token] = ending.result
            ended = ended.evolve(result=None, result_ref=_pointer(token, ending.result))
        self._last_tokens[job_id] = token
        return self._put(ended)

    async def mark_published(self, refs: Sequence[JobRef]) -> None:
        """See `JobStore.mark_published`."""
        for ref in refs:
            job = self._jobs.get(ref.id)
            if job is not None and job.state is JobState.QUEUED and _same_stay(job, ref):
                self._put(job.evolve(published_at=self._now()))

    async def unclaimed(
        self, route: Route, older_than_s: float, limit: int, after: datetime | None = None
    ) -> Sequence[JobRef]:
        """See `JobStore.unclaimed`."""
        now, age = self._now(), timedelta(seconds=older_than_s)
        fast = timedelta(seconds=updates.FAST_CLOCK_S)
        found = [
            (job.queued_at, job)
            for job in self._jobs.values()
            if job.state is JobState.QUEUED
            and (job.kind, job.lane) == route
            and job.published_at is not None
            and now - job.published_at >= age
            and job.queued_at is not None
            and now - job.queued_at >= age - fast
            and (after is None or job.queued_at >= after)
        ]
        oldest_first = sorted(found, key=lambda pair: pair[0])
        return [JobRef.of(job) for _, job in oldest_first[:limit]]

    async def confirmed(self, route: Route, limit: int) -> int:
        """See `JobStore.confirmed`."""
        count = sum(
            job.state is JobState.QUEUED
            and (job.kind, job.lane) == route
            and job.published_at is not None
            for job in self._jobs.values()
        )
        return min(count, limit)

    async def newest_running(self, route: Route) -> float | None:
        """See `JobStore.newest_running`."""
        placed = [
            min(job.queued_at, job.published_at)
            for job in self._jobs.values()
            if job.state is JobState.RUNNING
            and (job.kind, job.lane) == route
            and job.published_at is not None
            and job.queued_at is not None
            and not job.history
        ]
        return (self._now() - max(placed)).total_seconds() if placed else None

    async def unpublished(
        self, older_than_s: float, limit: int, without: Collection[Route] = ()
    ) -> Sequence[JobRef]:
        """See `JobStore.unpublished`."""
        now, age = self._now(), timedelta(seconds=older_than_s)
        found = [
            (job.queued_at, job)
            for job in self._jobs.values()
            if job.state is JobState.QUEUED
            and job.published_at is None
            and (job.kind, job.lane) not in without
            and job.queued_at is not None
            and abs(now - job.queued_at) >= age
        ]
        oldest_first = sorted(found, key=lambda pair: pair[0])
        return [JobRef.of(job) for _, job in oldest_first[:limit]]

    async def queue_due(self, limit: int) -> Sequence[JobRef]:
        """See `JobStore.queue_due`."""
        now = self._now()
        found = [
            (job.not_before, job)
            for job in self._jobs.values()
            if job.state in updates.DUE_FROM and job.not_before and job.not_before <= now
        ]
        first_due = sorted(found, key=lambda pair: pair[0])[:limit]
        return [JobRef.of(self._put(_queued(job, now))) for _, job in first_due]

    async def rescue(self, limit: int) -> Sequence[Rescue]:
        """See `JobStore.rescue`."""
        now = self._now()
        found = [
            (job.lease.until, job)
            for job in self._jobs.values()
            if job.lease is not None and job.state in updates.LEASED and lapsed(job, now)
        ]
        first = sorted(found, key=lambda pair: pair[0])[:limit]
        taken = [self._put(_rescued(job, now)) for _, job in first]
        return [Rescue(JobRef.of(job), job.state, job.dead_lettered) for job in taken]

    async def expire(self, limit: int) -> int:
        """See `JobStore.expire`."""
        now = self._now()
        overdue = (
            job
            for job in self._jobs.values()
            if job.state in updates.WAITING and out_of_time(job, now)
        )
        chosen = [*itertools.islice(overdue, limit)]
        for job in chosen:
            ended = _terminal(job, transition(job.state, Event.EXPIRED), now)
            self._put(ended.evolve(error=expiry_error(job), not_before=None))
        return len(chosen)

    async def backlog(self) -> Sequence[Backlog]:
        """See `JobStore.backlog`."""
        active = [job for job in self._jobs.values() if not job.done]
        counts = Counter((job.kind, job.lane, job.state) for job in active)
        queued: dict[object, datetime] = {}
        for job in active:
            group = (job.kind, job.lane, job.state)
            if job.queued_at is not None:
                queued[group] = min(job.queued_at, queued.get(group, job.queued_at))
        return [Backlog(*group, count, queued.get(group)) for group, count in counts.items()]

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        """See `JobStore.retry`."""
        job = await self.get(tenant, job_id)
        if job is not None and generation not in (None, job.generation):
            raise OtherGeneration
        return None if job is None else self._put(_retried(job, self._now()))

    async def prune(self, after: str | None, limit: int) -> Pruned:
        """See `JobStore.prune`; here a large result is one chunk."""
        beyond = [key for key in sorted(self._large) if after is None or "/".join(key) > after]
        chosen = beyond[:limit]
        orphans = [key for key in chosen if self._is_orphan(*key)]
        for key in orphans:
            del self._large[key]
        return Pruned(len(orphans), "/".join(chosen[-1]) if len(chosen) == limit else None)

    def _is_orphan(self, job_id: str, token: str) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and token not in _tokens(job)

    async def close(self) -> None:
        """Memory has no connections."""

    def _held(self, job_id: str, token: str) -> Job | None:
        job = self._jobs.get(job_id)
        held = job is not None and job.lease is not None and job.lease.token == token
        return job if held else None

    def _put(self, job: Job) -> Job:
        self._jobs[job.id] = job
        return job

    def _now(self) -> datetime:
        now = self._clock()
        return now - timedelta(microseconds=now.microsecond % 1000)


def _ended(job: Job, ending: Ending, now: datetime) -> Job:
    target = updates.destination(ending.event)
    after = _with_attempt(job, ending.attempt).evolve(
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
        return _terminal(after, target, now)
    after = after.evolve(published_at=None)
    if target is JobState.QUEUED:
        return after.evolve(state=target, queued_at=now)
    return after.evolve(state=target, not_before=_later(now, ending.wait_s))


def _queued(job: Job, now: datetime) -> Job:
    state = transition(job.state, Event.DUE)
    return job.evolve(state=state, queued_at=now, not_before=None, published_at=None)


def _retried(job: Job, now: datetime) -> Job:
    return job.evolve(
        state=transition(job.state, Event.REPLAYED),
        generation=job.generation + 1,
        attempts=0,
        queued_at=now,
        dead_lettered=False,
        **dict.fromkeys(updates.OF_ONE_GENERATION),
    )


def _rescued(job: Job, now: datetime) -> Job:
    after = _with_attempt(job, _lost_attempt(job, now)).evolve(
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
    return _terminal(after, state, now).evolve(error=error, dead_lettered=dead)


def _terminal(job: Job, state: JobState, now: datetime) -> Job:
    kept_until = now + timedelta(seconds=job.result_ttl_s)
    return job.evolve(state=state, finished_at=now, expires_at=kept_until)


def _with_attempt(job: Job, attempt: Attempt) -> Job:
    return job.evolve(history=(*job.history, attempt)[-updates.MOST_HISTORY :])


def _lost_attempt(job: Job, now: datetime) -> Attempt:
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


def _tokens(job: Job) -> Collection[str]:
    """Under which tokens a large result of the job may be wanted."""
    return [held.token for held in (job.lease, job.result_ref) if held is not None]


def _same_stay(job: Job, ref: JobRef) -> bool:
    if (job.generation, job.attempts) != (ref.generation, ref.attempts):
        return False
    if ref.queued_at is None or job.queued_at is None:
        return ref.queued_at is None
    return abs(job.queued_at - ref.queued_at) < _MILLISECOND


def _pointer(token: str, result: str) -> ResultRef:
    size = len(utf8(result))
    return ResultRef(token, -(-size // CHUNK_BYTES), size)


def _later(now: datetime, seconds: float) -> datetime:
    return now + timedelta(milliseconds=round(seconds * 1000))
