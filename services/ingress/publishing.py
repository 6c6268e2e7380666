"""From the commit to the broker: the pump that publishes behind the 202.

Theory of operation. An accepted job is durable already; the 202 never waits for the broker. The
pump is doorbell loops of two sorts. One for each route takes everything newly committed of it and
publishes it pipelined; one for all takes everything confirmed and marks it published in the store.
Under load each turn takes more, so both costs shrink per job, and none waits for another. Whatever
goes wrong here (broker down, message returned, memory bound reached, process killed) costs only
time: the job stays unpublished in the store and the relay publishes it.

A queue that never confirms holds nothing but its own loop. For a while its jobs are left to the
relay: each batch in vain is 5 s of waiting, and costs all others the channel it was sent on.

A job that could not be published soon is left to the relay too. Under more load than the pump
bears it would else be published by both, and an overload would make itself worse: 1,400 of 2,200
jobs were, on a starved machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from forebay.broker import JobMessage, NotPublished, Publisher
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import StoreUnavailable
from forebay.jobs import JobKind, Lane
from forebay.store import JobRef, JobStore, Route
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger

MAX_BATCH = 500
MARK_RETRY_S = 0.5
"""How long the marking waits for a store that does not answer, in seconds."""

OURS_S = 2.0
"""How long a job may wait here to be published, in seconds; then it is the relay's, which takes it
3 s later by default. That is for the confirm and the mark of those that went out just in time."""
SILENT_S = 10.0
"""How long the jobs of a queue that confirmed nothing in time are the relay's, in seconds."""

Item = TypeVar("Item")


class Doorbell(Generic[Item]):
    """Things to do, taken all at once by the one loop that hears the bell."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._rung = asyncio.Event()

    def put(self, item: Item) -> None:
        """Add one and ring."""
        self._items.append(item)
        self._rung.set()

    async def take(self) -> list[Item]:
        """Wait for the bell; everything there is, at most `MAX_BATCH`."""
        await self._rung.wait()
        batch = [self._items.popleft() for _ in range(min(len(self._items), MAX_BATCH))]
        if not self._items:
            self._rung.clear()
        return batch


class PublishPump:
    """Publishes accepted jobs in the background; an async context manager that drains at its end.

    Limit: what is in memory when the process dies is published by the relay, later.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: JobStore,
        logger: Logger,
        *,
        max_pending: int,
        grace_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._logger = logger
        self._max_pending = max_pending
        self._grace_s = grace_s
        self._clock = clock or _loop_time
        self._new: dict[Route, Doorbell[tuple[JobRef, float]]] = {
            (kind, lane): Doorbell() for kind in JobKind for lane in Lane
        }
        self._silent_until: dict[Route, float] = {}
        self._confirmed: Doorbell[JobRef] = Doorbell()
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pending(self) -> int:
        """Jobs offered and neither marked as published nor left to the relay."""
        return self._pending

    def offer(self, ref: JobRef) -> None:
        """Publish this queued job soon, or leave it to the relay: beyond the bounds."""
        route = (ref.kind, ref.lane)
        if self._pending >= self._max_pending or self._is_silent(route):
            return
        self._pending += 1
        self._idle.clear()
        self._new[route].put((ref, self._clock() + OURS_S))

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(
                self._forever("publish", partial(self._publish, route, its_new)),
                name=f"ingress.publish.{'.'.join(route)}",
            )
            for route, its_new in self._new.items()
        ]
        mark = self._forever("mark", self._mark)
        self._tasks.append(asyncio.create_task(mark, name="ingress.mark"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.timeout(self._grace_s):
                await self._idle.wait()
        except TimeoutError:
            self._logger.warning(LogEvent.PUBLISH_FAILED, left_to_relay=self._pending)
        finally:
            await end(*self._tasks)

    async def _forever(self, loop: str, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await turn()
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop=loop)

    async def _publish(self, route: Route, its_new: Doorbell[tuple[JobRef, float]]) -> None:
        offers = await its_new.take()
        now, silent = self._clock(), self._is_silent(route)
        refs = [ref for ref, ours_until in offers if now < ours_until and not silent]
        self._settle(len(offers) - len(refs))
        crashpoint(CrashPoint.INGRESS_BEFORE_PUBLISH)
        try:
            outcomes = await self._publisher.publish([_message(ref) for ref in refs])
        except BaseException:
            self._settle(len(refs))
            raise
        confirmed = [ref for ref, why_not in zip(refs, outcomes, strict=True) if why_not is None]
        if confirmed:
            crashpoint(CrashPoint.INGRESS_AFTER_PUBLISH)
        if refs and all(why_not is NotPublished.TIMEOUT for why_not in outcomes):
            self._silent_until[route] = self._clock() + SILENT_S
        for ref in confirmed:
            self._confirmed.put(ref)
        self._settle(len(refs) - len(confirmed))

    def _is_silent(self, route: Route) -> bool:
        return self._clock() < self._silent_until.get(route, 0.0)

    async def _mark(self) -> None:
        refs = await self._confirmed.take()
        crashpoint(CrashPoint.INGRESS_BEFORE_MARK)
        try:
            await self._mark_patiently(refs)
        finally:
            self._settle(len(refs))

    async def _mark_patiently(self, refs: list[JobRef]) -> None:
        while True:
            try:
                return await self._store.mark_published(refs)
            except StoreUnavailable:
                self._logger.warning(LogEvent.STORE_RETRIED, what="mark_published", jobs=len(refs))
                await asyncio.sleep(MARK_RETRY_S)

    def _settle(self, count: int) -> None:
        self._pending -= count
        if self._pending == 0:
            self._idle.set()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _message(ref: JobRef) -> JobMessage:
    return JobMessage(
        job_id=ref.id,
        generation=ref.generation,
        kind=ref.kind,
        lane=ref.lane,
        attempt=ref.attempts,
        traceparent=ref.traceparent,
    )
