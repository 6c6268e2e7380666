"""One delivery, a straight pipeline: claim, read, call, judge, store, settle.

Settling is always last and happens here only. Whatever happens before it is safe to repeat: a
message that comes again is absorbed by the claim, a write that comes again by the lease's token.

A dead letter is sent after the job's end is stored, and its worker may die in between, or the
broker not take it. So a message that comes again for a job that ended as a dead letter is one once
more: an operator finds each such job in the dead queue at least once, some of them twice.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from forebay.broker import DeadReason, Delivery, JobMessage, Malformed
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import ErrorCode, IllegalTransition, JobError, Unstorable
from forebay.jobs import Attempt, Event, Job, Lease, Usage
from forebay.outcomes import Failed
from forebay.retry import Backoff
from forebay.store import Claimed, Ending, JobRef, JobStore, Refusal, Refused
from forebay.store.patience import patient
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from forebay.worker.call import STORE_PAUSE_S, LeasedCall, LeaseGone
from forebay.worker.isolation import Isolation, wait_s
from forebay.worker.verdict import CANCELED, Closing, NotBegun, Verdict, judge

Request = TypeVar("Request", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ExecutionPolicy:
    """The rules one worker works by."""

    worker: str
    """The owner written into leases: random per process start, since a pod's name returns."""
    lease_s: float
    retry: Backoff


class Execution(Generic[Request]):
    """Executes deliveries of one kind."""

    def __init__(
        self,
        store: JobStore,
        call: LeasedCall[Request],
        request_model: type[Request],
        policy: ExecutionPolicy,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._store = store
        self._call = call
        self._request_model = request_model
        self._policy = policy
        self._metrics = metrics
        self._logger = logger
        self._patiently = patient(STORE_PAUSE_S)
        self._isolation = Isolation()

    async def execute(self, delivery: Delivery, abort: asyncio.Event) -> None:
        """Do all that one delivery asks for.

        Once `abort` is set the call is stopped, and job and message are handed back. A cancellation
        instead leaves everything as it is: the lease runs out and the rescuer sees to the job.
        """
        message = delivery.message
        if isinstance(message, Malformed):
            await delivery.dead_letter(DeadReason.MALFORMED, message.reason)
            return
        crashpoint(CrashPoint.WORKER_AFTER_RECEIVE)
        claim = await self._claim(message, suspects=False)
        if claim == Refused(Refusal.SUSPECT):
            await self._execute_suspect(delivery, message, abort)
        else:
            await self._begin(delivery, message, claim, abort)

    async def _execute_suspect(
        self, delivery: Delivery, message: JobMessage, abort: asyncio.Event
    ) -> None:
        """What may kill this process runs without another such job beside it, or later."""
        with self._isolation.place() as free:
            if free:
                claim = await self._claim(message, suspects=True)
                await self._begin(delivery, message, claim, abort)
                return
        # Not claimed: if the other one kills the process now, this one loses nothing.
        await self._patiently(
            self._store.postpone,
            _ref(message),
            wait_s(random.random()),  # noqa: S311  jitter
        )
        await self._settle_refused(delivery, message, Refused(Refusal.SUSPECT))

    async def _begin(
        self,
        delivery: Delivery,
        message: JobMessage,
        claim: Claimed | Refused,
        abort: asyncio.Event,
    ) -> None:
        if isinstance(claim, Refused):
            await self._settle_refused(delivery, message, claim)
            return
        crashpoint(CrashPoint.WORKER_AFTER_CLAIM)
        await self._work(delivery, claim.job, abort)

    async def _claim(self, message: JobMessage, *, suspects: bool) -> Claimed | Refused:
        # Made once: a repeat after an unknown answer finds its own lease, not somebody else's.
        token = secrets.token_hex(16)
        return await self._patiently(
            self._store.claim,
            _ref(message),
            self._policy.worker,
            self._policy.lease_s,
            token,
            suspects=suspects,
        )

    async def _settle_refused(
        self, delivery: Delivery, message: JobMessage, refused: Refused
    ) -> None:
        self._metrics.refused.labels(message.kind, refused.reason).inc()
        self._logger.info(LogEvent.CLAIM_REFUSED, job_id=message.job_id, reason=refused.reason)
        if refused.reason is Refusal.UNKNOWN:
            detail = "no such job in the store: never stored, or removed after its retention"
            await delivery.dead_letter(DeadReason.UNKNOWN_JOB, detail)
        elif delivery.redelivered:
            # Perhaps by a worker that ended the job and did not live to send its letter.
            await _settle_ended(delivery, refused.error, dead_lettered=refused.dead_lettered)
        else:
            await delivery.ack()

    async def _work(self, delivery: Delivery, job: Job, abort: asyncio.Event) -> None:
        began = time.monotonic()
        try:
            closing = await self._closing(job, abort)
        except LeaseGone:
            self._lose(job, at="renewal")
            await delivery.ack()
            return
        await self._conclude(delivery, job, closing, began)

    async def _closing(self, job: Job, abort: asyncio.Event) -> Closing:
        if abort.is_set():
            return NotBegun()
        try:
            request = self._request_model.model_validate_json(job.input)
        except ValidationError as invalid:
            detail = f"This worker cannot read the job's input: {invalid.error_count()} errors."
            return Failed(JobError(ErrorCode.INVALID_INPUT, detail))
        gauge = self._metrics.in_flight.labels(job.kind)
        with gauge.track_inprogress():
            return await self._call.run(job, _lease_of(job), request, abort)

    async def _conclude(self, delivery: Delivery, job: Job, closing: Closing, began: float) -> None:
        """Store how the attempt ended, then settle."""
        crashpoint(CrashPoint.WORKER_BEFORE_WRITE)
        verdict = judge(job, closing, self._policy.retry, random.random())  # noqa: S311  jitter
        attempt = _attempt(job, verdict, self._policy.worker, time.monotonic() - began)
        written = await self._store_ending(job, verdict, attempt) is not None
        if written:
            self._record(job, attempt, verdict.usage)
        else:
            self._lose(job, at="finish")
        crashpoint(CrashPoint.WORKER_BEFORE_ACK)
        if written:
            await _settle(delivery, verdict)
        else:
            # The job is somebody else's: what this attempt came to means nothing.
            await delivery.ack()

    async def _store_ending(self, job: Job, verdict: Verdict, attempt: Attempt) -> Job | None:
        """Write it while the lease is held, however long the store is away."""
        write = partial(self._write_ending, job, verdict, attempt)
        return await self._call.storing(job, _lease_of(job), write)

    async def _write_ending(self, job: Job, verdict: Verdict, attempt: Attempt) -> Job | None:
        """Write it under the lease's token; safe to repeat. None: the lease was gone."""
        ending = Ending(
            event=verdict.event,
            attempt=attempt,
            result=verdict.result,
            error=verdict.error,
            usage=verdict.usage,
            wait_s=verdict.wait_s,
            uncount=verdict.uncount,
            dead_lettered=verdict.dead_lettered,
        )
        token = _lease_of(job).token
        try:
            return await self._patiently(self._store.finish, job.id, token, ending)
        except Unstorable as refused:
            # The provider's answer cannot be written, now or later; that it cannot, can be.
            error = JobError(ErrorCode.PROVIDER_ERROR, f"The answer cannot be stored: {refused}")
            ending = replace(ending, event=Event.FAILED, result=None, error=error, usage=None)
        except IllegalTransition:
            # Its caller asked to stop it meanwhile: there is no next attempt to wait for.
            ending = replace(
                ending, event=Event.CANCELED, error=CANCELED, uncount=False, dead_lettered=False
            )
        return await self._patiently(self._store.finish, job.id, token, ending)

    def _lose(self, job: Job, *, at: Literal["renewal", "finish"]) -> None:
        self._metrics.leases_lost.labels(job.kind).inc()
        self._logger.warning(LogEvent.LEASE_LOST, job_id=job.id, attempt=job.attempts, at=at)

    def _record(self, job: Job, attempt: Attempt, usage: Usage | None) -> None:
        code = attempt.error.code if attempt.error else ""
        self._metrics.attempts.labels(job.kind, attempt.outcome, code).inc()
        self._metrics.queue_wait_seconds.labels(job.kind, job.lane).observe(
            attempt.queue_wait_ms / 1000
        )
        self._metrics.provider_seconds.labels(job.kind, attempt.provider or "").observe(
            attempt.provider_ms / 1000
        )
        if usage is not None:
            self._metrics.tokens.labels("input").inc(usage.input_tokens)
            self._metrics.tokens.labels("output").inc(usage.output_tokens)
        self._logger.info(
            LogEvent.ATTEMPT_ENDED,
            job_id=job.id,
            attempt=attempt.n,
            outcome=attempt.outcome,
            code=code or None,
            provider=attempt.provider,
            http_status=attempt.http_status,
            queue_wait_ms=attempt.queue_wait_ms,
            provider_ms=attempt.provider_ms,
        )


async def _settle(delivery: Delivery, verdict: Verdict) -> None:
    if verdict.event is Event.HANDED_BACK:
        await delivery.give_back()
    else:
        await _settle_ended(delivery, verdict.error, dead_lettered=verdict.dead_lettered)


async def _settle_ended(delivery: Delivery, error: JobError | None, *, dead_lettered: bool) -> None:
    """Settle the message of an attempt or a job that ended so."""
    if error is not None and dead_lettered:
        await delivery.dead_letter(DeadReason.ATTEMPTS_EXHAUSTED, error.detail)
    elif error is not None and error.code is ErrorCode.INVALID_INPUT:
        await delivery.dead_letter(DeadReason.INVALID_INPUT, error.detail)
    else:
        await delivery.ack()


def _attempt(job: Job, verdict: Verdict, worker: str, took_s: float) -> Attempt:
    """The record of the attempt. Its times are the store's: only the length is measured here."""
    started = job.started_at or job.created_at
    waited = started - (job.queued_at or started)
    call = verdict.call
    return Attempt(
        n=job.attempts,
        generation=job.generation,
        outcome=verdict.event.value.replace(" ", "_"),
        worker=worker,
        started_at=started,
        finished_at=started + timedelta(seconds=took_s),
        queue_wait_ms=max(int(waited.total_seconds() * 1000), 0),
        provider_ms=int(took_s * 1000),
        provider=call.provider if call else None,
        http_status=call.http_status if call else None,
        provider_request_id=call.request_id if call else None,
        error=verdict.cause or verdict.error,
    )


def _ref(message: JobMessage) -> JobRef:
    return JobRef(message.job_id, message.generation, message.kind, message.lane)


def _lease_of(job: Job) -> Lease:
    if job.lease is None:
        raise LookupError(f"{job.id} was claimed without a lease")
    return job.lease
