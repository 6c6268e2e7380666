"""The shipped fake: the same promises in one process's memory, for tests and simulations.

Its clock is an argument, so a simulation can move time. Nothing here awaits, so every method is one
step of the event loop, as a compare-and-set is one step of the database. It passes the contract
suite of the real one. What it does not do: forget jobs after their retention, or outlive its
process.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from forebay.batches import BatchJobs
from forebay.errors import IllegalTransition, OtherGeneration
from forebay.jobs import (
    TRANSITIONS,
    Event,
    Job,
    JobKind,
    JobState,
    Lease,
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
from forebay.store.moves import (
    canceled,
    ended,
    is_listed,
    later,
    lost_attempt,
    pointer,
    queued,
    rescued,
    retried,
    same_stay,
    terminal,
    tokens,
    with_attempt,
)
from forebay.store.refusals import lapsed, out_of_time, refusal, refused
from forebay.store.results import INLINE_BYTES

_MILLISECOND = timedelta(milliseconds=1)


class MemoryJobStore:
    """`JobStore` without a database."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._batches: defaultdict[str, set[str]] = defaultdict(set)
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
        if job.batch_id is not None:
            self._batches[job.batch_id].add(job.id)
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
        jobs = self._jobs.values() if query.batch is None else self._among(query.batch)
        found = (
            job.evolve(input="", result=job.result if query.with_results else None)
            for job in sorted(jobs, key=attrgetter("id"), reverse=not query.oldest_first)
            if job.tenant == query.tenant and is_listed(job, query)
        )
        return [*itertools.islice(found, query.limit)]

    def _among(self, batch: BatchJobs) -> Sequence[Job]:
        ids = batch.members or self._batches.get(batch.batch_id, ())
        return [self._jobs[job_id] for job_id in ids if job_id in self._jobs]

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
            job = with_attempt(job, lost_attempt(job, now))
        lease = Lease(token or secrets.token_hex(16), worker, later(now, lease_s))
        return Claimed(
            self._put(
                job.evolve(
                    state=JobState.RUNNING,
                    attempts=job.attempts + 1,
                    rounds=job.rounds + 1,
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
            due = later(self._now(), wait_s)
            self._put(job.evolve(state=JobState.RETRYING, not_before=due, published_at=None))

    async def renew(self, job_id: str, token: str, lease_s: float) -> Renewal:
        """See `JobStore.renew`."""
        job = self._held(job_id, token)
        if job is None or job.lease is None:
            return Renewal.LOST
        lease = Lease(token, job.lease.worker, later(self._now(), lease_s))
        self._put(job.evolve(lease=lease))
        return Renewal.CANCELING if job.state is JobState.CANCELING else Renewal.HELD

    async def finish(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """See `JobStore.finish`."""
        job = self._held(job_id, token)
        if job is None:
            done_before = self._last_tokens.get(job_id) == token
            return self._jobs.get(job_id) if done_before else None
        updates.check_endable(job, ending)
        over = as_stored(ended(job, ending, self._now()))
        large = len(utf8(ending.result or "")) > INLINE_BYTES
        if large and ending.result is not None:
            self._large[job_id, token] = ending.result
            over = over.evolve(result=None, result_ref=pointer(token, ending.result))
        self._last_tokens[job_id] = token
        return self._put(over)

    async def mark_published(self, refs: Sequence[JobRef]) -> None:
        """See `JobStore.mark_published`."""
        for ref in refs:
            job = self._jobs.get(ref.id)
            if job is not None and job.state is JobState.QUEUED and same_stay(job, ref):
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
        return [JobRef.of(self._put(queued(job, now))) for _, job in first_due]

    async def rescue(self, limit: int) -> Sequence[Rescue]:
        """See `JobStore.rescue`."""
        now = self._now()
        found = [
            (job.lease.until, job)
            for job in self._jobs.values()
            if job.lease is not None and job.state in updates.LEASED and lapsed(job, now)
        ]
        first = sorted(found, key=lambda pair: pair[0])[:limit]
        taken = [self._put(rescued(job, now)) for _, job in first]
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
            ended = terminal(job, transition(job.state, Event.EXPIRED), now)
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
        return None if job is None else self._put(retried(job, self._now()))

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore.cancel`."""
        job = await self.get(tenant, job_id)
        if job is None or Event.CANCEL not in TRANSITIONS[job.state]:
            return job
        return self._put(canceled(job, self._now()))

    async def tally(self, tenant: str, jobs: BatchJobs) -> Mapping[JobState, int]:
        """See `JobStore.tally`."""
        return Counter(job.state for job in self._among(jobs) if job.tenant == tenant)

    async def count_open(self, key_id: str, limit: int) -> int:
        """See `JobStore.count_open`."""
        own = (job for job in self._jobs.values() if job.key_id == key_id and not job.done)
        return sum(1 for _ in itertools.islice(own, limit))

    async def cancel_many(self, tenant: str, job_ids: Collection[str]) -> int:
        """See `JobStore.cancel_many`."""
        jobs = self._theirs(tenant, job_ids)
        chosen = [job for job in jobs if Event.CANCEL in TRANSITIONS[job.state]]
        for job in chosen:
            self._put(canceled(job, self._now()))
        return len(chosen)

    async def retry_many(self, tenant: str, job_ids: Collection[str]) -> Sequence[JobRef]:
        """See `JobStore.retry_many`."""
        chosen = [job for job in self._theirs(tenant, job_ids) if job.done]
        return [JobRef.of(self._put(retried(job, self._now()))) for job in chosen]

    def _theirs(self, tenant: str, job_ids: Collection[str]) -> Sequence[Job]:
        found = (self._jobs.get(job_id) for job_id in job_ids)
        return [job for job in found if job is not None and job.tenant == tenant]

    async def forget(self, tenant: str, job_id: str) -> bool:
        """See `JobStore.forget`."""
        job = await self.get(tenant, job_id)
        if job is None:
            return False
        if not job.done:
            raise IllegalTransition(f"{job_id} is {job.state}, not at its end")
        del self._jobs[job_id]
        if job.batch_id is not None:
            self._batches[job.batch_id].discard(job_id)
        self._last_tokens.pop(job_id, None)
        if job.idempotency is not None:
            del self._keys[tenant, job.idempotency.key]
        for key in [key for key in self._large if key[0] == job_id]:
            del self._large[key]
        return True

    async def asked_to_stop(self, job_ids: Collection[str]) -> frozenset[str]:
        """See `JobStore.asked_to_stop`."""
        found = (self._jobs.get(job_id) for job_id in job_ids)
        return frozenset(job.id for job in found if job and job.state is JobState.CANCELING)

    async def untold(self, older_than_s: float, limit: int) -> Sequence[Job]:
        """See `JobStore.untold`."""
        bound = self._now() - timedelta(seconds=older_than_s)
        found = [
            (job.untold[0].at, job)
            for job in self._jobs.values()
            if job.untold and job.untold[0].at <= bound
        ]
        first = sorted(found, key=lambda pair: pair[0])[:limit]
        return [job.evolve(input="", result=None) for _, job in first]

    async def told(self, job_id: str, generation: int) -> None:
        """See `JobStore.told`."""
        job = self._jobs.get(job_id)
        if job is not None:
            left = tuple(end for end in job.untold if end.generation != generation)
            self._put(job.evolve(untold=left))

    async def cancel_deliveries(self, tenant: str, endpoint_tag: str) -> int:
        """See `JobStore.cancel_deliveries`."""
        chosen = [
            job
            for job in self._jobs.values()
            if job.tenant == tenant
            and job.kind is JobKind.WEBHOOK
            and endpoint_tag in job.tags
            and job.state in updates.CANCELED_AT_ONCE
        ]
        for job in chosen:
            self._put(canceled(job, self._now()))
        return len(chosen)

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
        return job is not None and token not in tokens(job)

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
