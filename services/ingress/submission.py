"""Accepting a job: build it, commit it, hand it to the pump.

The promise: an `Accepted` job is stored by a majority and journaled. A refusal for overload or an
unavailable store promises nothing the other way round: when the store's answer was lost the job may
exist, and a repeat with the same Idempotency-Key is that job.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Protocol

from pydantic_core import to_json
from uuid_utils import uuid7

from forebay.addresses import AddressGuard
from forebay.errors import StoreOverloaded, StoreUnavailable
from forebay.jobs import (
    Idempotency,
    Job,
    JobKind,
    JobState,
    ProviderPreference,
    WebhookTarget,
    first_state,
)
from forebay.keys import ApiKey
from forebay.requests import CrawlRequest
from forebay.settings import AttemptSettings
from forebay.store import Inserted, InsertResult, JobRef, JobStore
from forebay.telemetry.metrics import Metrics
from ingress.body import validation_error
from ingress.open_jobs import OpenJobs
from ingress.problems import InvalidPart, ProblemCode, RequestRefused
from ingress.publishing import PublishPump
from ingress.room import Room
from ingress.schemas import MAX_METADATA_BYTES, JobSubmission
from ingress.settings import IngressSettings

Clock = Callable[[], datetime]
_BEHIND = 0.5
"""Of the time for an accept: whose turn comes later than this may not be answered any more."""


class Commit(Protocol):
    """Stores one job durably; in the running service many at once (`GroupCommit`)."""

    async def insert(self, job: Job) -> InsertResult:
        """Return when the job is durable; raises `StoreUnavailable`, `StoreOverloaded`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from."""

    tenant: str
    traceparent: str | None = None
    idempotency: Idempotency | None = None
    key: ApiKey | None = None
    """What it came with; None in open mode."""
    listened: bool = False
    """Whether the tenant has webhook endpoints, which may want to hear of the job's end."""
    input_at: str = "/input"
    """Where the input is in the body, as a JSON pointer."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The durable job, and whether it was there before under the same idempotency key."""

    job: Job
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a submission must obey and what it gets when it does not say."""

    attempts: AttemptSettings
    guard: AddressGuard
    """Of crawled pages."""
    webhook_guard: AddressGuard = AddressGuard()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is accepted at a time, and what there is room for."""

    settings: IngressSettings
    room: Room
    open_jobs: OpenJobs


class JobBuilder:
    """Makes jobs of submissions; it alone asks the clock and makes ids."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock

    def build(self, submission: JobSubmission, origin: Origin) -> Job:
        """A new job; raises `RequestRefused` when the submission cannot become one."""
        now = self._clock()
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self._check(submission, origin, now)
        kind = JobKind(submission.kind)
        state = first_state(submission.not_before, now)
        retry = submission.retry
        return Job(
            id=f"job_{uuid7().hex}",
            tenant=origin.tenant,
            kind=kind,
            lane=submission.lane,
            state=state,
            input=to_json(submission.input).decode(),
            created_at=now,
            queued_at=now if state is JobState.QUEUED else None,
            max_attempts=retry.max_attempts or self._rules.attempts.of(kind),
            on_unknown=retry.on_unknown,
            provider=ProviderPreference(
                submission.provider.order, submission.provider.allow_fallbacks
            ),
            not_before=submission.not_before if state is JobState.SCHEDULED else None,
            start_by=submission.start_by,
            deadline=submission.deadline,
            result_ttl_s=submission.result_ttl_s,
            idempotency=origin.idempotency,
            key_id=None if origin.key is None else origin.key.id,
            webhook=_target(submission),
            notifies=origin.listened or submission.webhook is not None,
            tags=submission.tags,
            metadata=metadata_text(submission.metadata),
            traceparent=origin.traceparent,
        )

    def _check(self, submission: JobSubmission, origin: Origin, now: datetime) -> None:
        for name, limit in (("start_by", submission.start_by), ("deadline", submission.deadline)):
            if limit is None:
                continue
            if limit <= now:
                raise _refuse_part(ProblemCode.DEADLINE_IN_PAST, f"/{name}", "It has passed.")
            if submission.not_before is not None and limit <= submission.not_before:
                raise _invalid(f"/{name}", "It must be after `not_before`")
        start_by, deadline = submission.start_by, submission.deadline
        if start_by is not None and deadline is not None and start_by > deadline:
            raise _invalid("/start_by", "It must not be after `deadline`")
        request, webhook = submission.input, submission.webhook
        if isinstance(request, CrawlRequest):
            check_address(self._rules.guard, request.url, f"{origin.input_at}/url")
        if webhook is not None:
            check_address(self._rules.webhook_guard, webhook.url, "/webhook/url")


class Desk:
    """Where jobs are accepted."""

    def __init__(
        self,
        builder: JobBuilder,
        commit: Commit,
        store: JobStore,
        pump: PublishPump,
        metrics: Metrics,
        bounds: Bounds,
    ) -> None:
        self._builder = builder
        self._commit = commit
        self._store = store
        self._pump = pump
        self._metrics = metrics
        self._settings = bounds.settings
        self._room = bounds.room
        self._open_jobs = bounds.open_jobs
        self._began: dict[object, float] = {}
        """When each accept that waits now began, the oldest first."""

    @property
    def in_flight(self) -> int:
        """Accepts that wait for the store now."""
        return len(self._began)

    @property
    def is_behind(self) -> bool:
        """Whether the oldest accept has waited so long that a new one would hardly be in time."""
        oldest = next(iter(self._began.values()), None)
        too_long_s = self._settings.accept_timeout_s * _BEHIND
        return oldest is not None and asyncio.get_running_loop().time() - oldest > too_long_s

    @property
    def unpublished(self) -> int:
        """Accepted jobs that are still on their way to the broker from this process."""
        return self._pump.pending

    async def accept(self, submission: JobSubmission, origin: Origin) -> Accepted:
        """The durable job; raises `RequestRefused`, which says what is known of the job.

        Once begun the commit ends, whatever becomes of the caller; when the caller is cut off at
        that very moment the relay publishes the job.
        """
        if len(self._began) >= self._settings.max_pending:
            raise overloaded()
        began = perf_counter()
        me = object()
        self._began[me] = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._settings.accept_timeout_s):
                accepted = await self._accept_once(submission, origin)
        except (StoreUnavailable, TimeoutError):
            # The insert may have begun, so it may be done.
            raise store_unavailable(
                "Whether the job was accepted is not known: repeat it under the same "
                "Idempotency-Key, and it is one job."
            ) from None
        except StoreOverloaded:
            raise overloaded() from None
        finally:
            del self._began[me]
        self._metrics.accept_seconds.observe(perf_counter() - began)
        job = accepted.job
        if not accepted.replayed:
            self._metrics.accepted.labels(job.kind, job.lane).inc()
            if job.state is JobState.QUEUED:
                self._pump.offer(JobRef.of(job))
        return accepted

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        """Queue a terminal job again under its next generation; None when there is none.

        It is published at once, as a new one is. Raises `IllegalTransition` when it is not
        terminal, `OtherGeneration` when it is not in the one that was asked for, and
        `RequestRefused` when the store does not answer.
        """
        try:
            await self._make_room(tenant, job_id, generation)
            job = await self._store.retry(tenant, job_id, generation)
        except StoreUnavailable:
            raise store_unavailable(
                "Whether the job was queued again is not known: its `generation` will say so."
            ) from None
        if job is not None:
            self._pump.offer(JobRef.of(job))
        return job

    async def _make_room(self, tenant: str, job_id: str, generation: int | None) -> None:
        """Raise `RequestRefused` when the job finds no room in its queue, if it can run again."""
        if not self._room.bounded:
            return
        job = await self._store.get(tenant, job_id)
        if job is not None and job.done and generation in {None, job.generation}:
            self._room.enter({(job.kind, job.lane): 1})

    async def _accept_once(self, submission: JobSubmission, origin: Origin) -> Accepted:
        async with AsyncExitStack() as places:
            try:
                job = self._builder.build(submission, origin)
                await places.enter_async_context(self._open_jobs.room(origin.key))
                wanted = self._room.wanted(job)
                self._room.enter(wanted)
            except RequestRefused:
                # What was accepted under this key is that job, though its time has passed
                # meanwhile, or there is no room for another one.
                held = await self._holder(origin)
                if held is None:
                    raise
                return Accepted(held, replayed=True)
            accepted = await self._store_once(job, origin)
        if accepted.replayed:
            self._room.leave(wanted)
        return accepted

    async def _store_once(self, job: Job, origin: Origin) -> Accepted:
        # Twice: the job that holds the key may reach the end of its retention in between.
        for _ in range(2):
            if isinstance(await self._commit.insert(job), Inserted):
                return Accepted(job)
            held = await self._holder(origin)
            if held is not None:
                return Accepted(held, replayed=True)
        raise StoreUnavailable

    async def _holder(self, origin: Origin) -> Job | None:
        """The job that was accepted under this key; raises `RequestRefused` for another body."""
        if origin.idempotency is None:
            return None
        held = await self._store.find_by_key(origin.tenant, origin.idempotency.key)
        if held is None or held.idempotency == origin.idempotency:
            return held
        raise RequestRefused(
            ProblemCode.IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key came before with another body; take a new key for a new job.",
            errors=(InvalidPart(header="Idempotency-Key", detail="Used with another body"),),
        )


def store_unavailable(consequence: str) -> RequestRefused:
    """The refusal while the store does not answer."""
    return come_back(ProblemCode.STORE_UNAVAILABLE, f"The store does not answer now. {consequence}")


def utc_now() -> datetime:
    """The process's clock."""
    return datetime.now(UTC)


def overloaded() -> RequestRefused:
    """The refusal of a submission of which nothing was begun."""
    return come_back(
        ProblemCode.OVERLOADED, "Too many requests are being accepted now; nothing was accepted."
    )


def come_back(code: ProblemCode, detail: str) -> RequestRefused:
    """A refusal that passes within seconds, and says in how many to try again."""
    # Jitter, so that all who are refused together do not return together.
    seconds = 1 + int(random.random() * 4)  # noqa: S311 - spreads load, guards nothing
    return RequestRefused(code, f"{detail} Try again in {seconds} s.", retry_after_s=seconds)


def _refuse_part(code: ProblemCode, pointer: str, detail: str) -> RequestRefused:
    part = InvalidPart(pointer=pointer, detail=detail)
    return RequestRefused(code, f"`{pointer[1:].replace('/', '.')}`: {detail}", errors=(part,))


def check_address(guard: AddressGuard, url: str, pointer: str) -> None:
    """Raise `RequestRefused` when a URL must not be called, judged by its letters."""
    reason = guard.check_url(url)
    if reason is not None:
        said = f"It must not be called from here: it is {reason}."
        raise _refuse_part(ProblemCode.ADDRESS_FORBIDDEN, pointer, said)


def _target(submission: JobSubmission) -> WebhookTarget | None:
    if submission.webhook is None:
        return None
    return WebhookTarget(
        submission.webhook.url, tuple(event.value for event in submission.webhook.events)
    )


def _invalid(pointer: str, detail: str) -> RequestRefused:
    return validation_error([InvalidPart(pointer=pointer, detail=detail)])


def metadata_text(metadata: Mapping[str, object]) -> str:
    """The caller's object as JSON text; raises `RequestRefused` when it is too large."""
    text = to_json(metadata)
    if len(text) > MAX_METADATA_BYTES:
        raise _invalid("/metadata", f"It may have at most {MAX_METADATA_BYTES} bytes as JSON")
    return text.decode()
