"""One provider call under a lease: renewed until its end is stored, stopped when it may not go on.

Theory of operation. The handler and the lease keeper run side by side. Whoever ends first decides:
the handler with its outcome; the keeper when the lease is gone or the caller wants the job stopped;
the clock when the call's time limit or the job's deadline is reached; the worker when it must stop.
The others are canceled and awaited, so that no call outlives the decision and its connection is
closed.

The lease is renewed until the store has taken the end of the attempt, too: a large result over a
slow link takes longer to write than a lease lasts, and a lease that lapses then is a paid call made
again. Fencing stays with the write: a renewal that is refused only ends the waiting for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Job, Lease
from forebay.outcomes import Outcome, Retry
from forebay.store import JobStore, Renewal
from forebay.store.patience import patient
from forebay.store.watch import Watch
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.worker import Handler, Request_contra
from forebay.worker.telling import Telling
from forebay.worker.verdict import CancelRequested, Closing, DeadlinePassed, Interrupted

STORE_PAUSE_S = 1.0
"""Between two tries to reach a store that was away. A rescuer looks as often, and it takes what
lapsed meanwhile: with longer pauses it would come first, and the call in hand be made again."""
QUICK_S = 1.0
"""A write that is done sooner needs no renewal: the call's last one is a third of a lease ago."""
_CRASHED = Retry(
    JobError(
        ErrorCode.INTERNAL,
        "The worker failed inside; its log says why under this job's id.",
        retryable=True,
    )
)


class LeaseGone(Exception):
    """The lease is not ours any more: nothing may be written for this attempt."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Both in seconds."""

    timeout_s: float
    """Upper bound of one call."""
    lease_s: float
    """How long each renewal of the lease holds; it is renewed every third of it."""


class LeasedCall(Generic[Request_contra]):
    """Runs a handler under a lease.

    Args:
        stops: wakes who waits for a job that is asked to stop.
        telling: hears what the provider writes.
    """

    def __init__(
        self,
        store: JobStore,
        handler: Handler[Request_contra],
        stops: Watch,
        telling: Telling,
        logger: Logger,
        limits: CallLimits,
    ) -> None:
        self._store = store
        self._handler = handler
        self._stops = stops
        self._telling = telling
        self._logger = logger
        self._timeout_s = limits.timeout_s
        self._lease_s = limits.lease_s
        self._patiently = patient(min(STORE_PAUSE_S, limits.lease_s / 3))

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
        self._telling.moved(job)
        call = asyncio.create_task(self._guarded(job, request), name=f"call {job.id}")
        keeper = asyncio.create_task(self._keep(job.id, lease.token), name=f"lease {job.id}")
        aborted = asyncio.create_task(abort.wait(), name=f"abort {job.id}")
        try:
            await asyncio.wait(
                {call, keeper, aborted}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if call.done():
                return self._outcome(job, call)
            if keeper.done():
                return keeper.result()
            return Interrupted() if abort.is_set() else at_limit
        finally:
            await end(call, keeper, aborted)

    async def storing(
        self, job: Job, lease: Lease, write: Callable[[], Coroutine[Any, Any, Job | None]]
    ) -> Job | None:
        """Await the write that ends the attempt, the lease renewed meanwhile; the job after it.

        A lease that is gone is the end of a write that still tries: it is somebody else's, or it
        went with this very write, whose answer is on its way or lost. One more write says which,
        and changes nothing: it must be safe to repeat.
        """
        ended = await self._stored(job, lease, write)
        if ended is not None:
            await self._telling.stored(ended)
        return ended

    async def _stored(
        self, job: Job, lease: Lease, write: Callable[[], Coroutine[Any, Any, Job | None]]
    ) -> Job | None:
        writing = asyncio.create_task(write(), name=f"ending {job.id}")
        pause_s = min(QUICK_S, self._lease_s / 3)
        try:
            while not (await asyncio.wait({writing}, timeout=pause_s))[0]:
                pause_s = self._lease_s / 3
                renewal = await self._patiently(
                    self._store.renew, job.id, lease.token, self._lease_s
                )
                if renewal is Renewal.LOST:
                    break
            await end(writing)
            if not writing.cancelled():
                return writing.result()
        finally:
            await end(writing)
        return await write()

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
            with self._telling.writing(job) as write:
                return await self._handler.handle(job, request, write)
        except Exception:
            self._logger.exception(LogEvent.HANDLER_CRASHED, job_id=job.id, attempt=job.attempts)
            return _CRASHED

    def _outcome(self, job: Job, call: asyncio.Task[Outcome]) -> Outcome:
        """What the call that is done came to."""
        try:
            return call.result()
        except asyncio.CancelledError:
            # Nobody canceled it: some libraries end so what waits on a connection that died.
            self._logger.exception(LogEvent.HANDLER_CRASHED, job_id=job.id, attempt=job.attempts)
            return _CRASHED

    async def _keep(self, job_id: str, token: str) -> Closing:
        """Renew for as long as it holds; returns only when the call must stop."""
        while True:
            if await self._stops.until(job_id, self._lease_s / 3):
                return CancelRequested()
            # While the store is away the call goes on: the compare-and-set at its end decides.
            crashpoint(CrashPoint.WORKER_DURING_CALL)
            match await self._patiently(self._store.renew, job_id, token, self._lease_s):
                case Renewal.HELD:
                    continue
                case Renewal.CANCELING:
                    return CancelRequested()
                case Renewal.LOST:
                    raise LeaseGone
