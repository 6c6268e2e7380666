"""One provider call under a lease: renewed while it runs, stopped when it may not go on.

Theory of operation. The handler and the lease keeper run side by side. Whoever ends first decides:
the handler with its outcome; the keeper when the lease is gone or the caller wants the job stopped;
the clock when the call's time limit or the job's deadline is reached; the worker when it must stop.
The others are canceled and awaited, so that no call outlives the decision and its connection is
closed.
"""

from __future__ import annotations

import asyncio
from typing import Generic

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Job, Lease
from forebay.outcomes import Outcome, Retry
from forebay.store import JobStore, Renewal
from forebay.store.patience import patient
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.worker import Handler, Request_contra
from forebay.worker.verdict import CancelRequested, Closing, DeadlinePassed, Interrupted


class LeaseGone(Exception):
    """The lease is not ours any more: nothing may be written for this attempt."""


class LeasedCall(Generic[Request_contra]):
    """Runs a handler under a lease.

    Args:
        timeout_s: upper bound of one call.
        lease_s: how long each renewal holds; renewed every third of it.
    """

    def __init__(
        self,
        store: JobStore,
        handler: Handler[Request_contra],
        logger: Logger,
        *,
        timeout_s: float,
        lease_s: float,
    ) -> None:
        self._store = store
        self._handler = handler
        self._logger = logger
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._patiently = patient(lease_s / 3)

    async def run(
        self, job: Job, lease: Lease, request: Request_contra, abort: asyncio.Event
    ) -> Closing:
        """Call the provider; raises `LeaseGone` when the lease was lost meanwhile.

        Args:
            job: as it was claimed; its `started_at` is the store's now.
            lease: what to renew.
            request: the job's input.
            abort: set when the worker cannot wait for the call any longer.
        """
        limit_s, at_limit = self._limit(job)
        call = asyncio.create_task(self._guarded(job, request), name=f"call {job.id}")
        keeper = asyncio.create_task(self._keep(job.id, lease.token), name=f"lease {job.id}")
        aborted = asyncio.create_task(abort.wait(), name=f"abort {job.id}")
        try:
            await asyncio.wait(
                {call, keeper, aborted}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if call.done():
                return call.result()
            if keeper.done():
                return keeper.result()
            return Interrupted() if abort.is_set() else at_limit
        finally:
            await end(call, keeper, aborted)

    def _limit(self, job: Job) -> tuple[float, Closing]:
        """How long the call may take, and what it means when it takes longer."""
        error = JobError(
            ErrorCode.PROVIDER_TIMEOUT,
            f"The provider did not answer within {self._timeout_s:g} s.",
            retryable=True,
        )
        if job.deadline is not None:
            now = job.started_at or job.created_at
            left_s = max((job.deadline - now).total_seconds(), 0.0)
            if left_s < self._timeout_s:
                return left_s, DeadlinePassed()
        return self._timeout_s, Retry(error)

    async def _guarded(self, job: Job, request: Request_contra) -> Outcome:
        """The handler's outcome; a defect of ours is an outcome too, bounded by the attempts."""
        try:
            return await self._handler.handle(job, request)
        except Exception:
            self._logger.exception(LogEvent.HANDLER_CRASHED, job_id=job.id, attempt=job.attempts)
            detail = "The worker failed inside; its log says why under this job's id."
            return Retry(JobError(ErrorCode.INTERNAL, detail, retryable=True))

    async def _keep(self, job_id: str, token: str) -> Closing:
        """Renew for as long as it holds; returns only when the call must stop."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            # While the store is away the call goes on: the compare-and-set at its end decides.
            crashpoint(CrashPoint.WORKER_DURING_CALL)
            match await self._patiently(self._store.renew, job_id, token, self._lease_s):
                case Renewal.HELD:
                    continue
                case Renewal.CANCELING:
                    return CancelRequested()
                case Renewal.LOST:
                    raise LeaseGone
