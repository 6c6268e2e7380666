"""The slots of a worker: bounded concurrency over the lanes, and how it drains.

Theory of operation. Nothing polls. A delivery that arrives and a slot that becomes free both call
`_fill`, which starts work while there are both. The work runs in tasks of this pool, not in the
broker library's: a channel that closes cancels its own tasks, and a paid call must not die because
a socket blinked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from forebay.broker import Delivery
from forebay.tasks import canceled, end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.worker.lanes import LaneBuffer


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did."""

    finished: int
    """Calls that ended by themselves within the grace period."""
    aborted: int
    """Calls that were stopped. Their jobs were handed back, or ended if there is no other try."""
    given_back: int
    """Messages that had not begun."""


Execute = Callable[[Delivery, asyncio.Event], Awaitable[None]]
"""Does all that a delivery asks for; the event says that the worker can wait no longer."""

HAND_BACK_S = 5.0
"""After the grace period: how long handing back may take, in seconds, when the store is slow."""


class Pool:
    """Executes deliveries, at most `concurrency` at a time."""

    def __init__(self, execute: Execute, concurrency: int, logger: Logger) -> None:
        self._execute = execute
        self._concurrency = concurrency
        self._logger = logger
        self._buffer = LaneBuffer()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._abort = asyncio.Event()
        self._returning: set[asyncio.Task[None]] = set()

    @property
    def free(self) -> int:
        """Slots without work."""
        return self._concurrency - len(self._running)

    def receive(self, delivery: Delivery) -> None:
        """Take a delivery: work on it when a slot is free. During a drain it goes straight back."""
        if self._closed:
            self._give_back(delivery)
            return
        self._buffer.put(delivery)
        self._fill()

    def _fill(self) -> None:
        while self.free > 0 and (delivery := self._buffer.take()) is not None:
            task = asyncio.create_task(self._guarded(delivery), name="execution")
            self._running.add(task)
            task.add_done_callback(self._free_slot)

    def _free_slot(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._closed:
            self._fill()

    async def _guarded(self, delivery: Delivery) -> None:
        """A defect in one execution must not take its neighbours along; its lease runs out."""
        try:
            await self._execute(delivery, self._abort)
        except (Exception, asyncio.CancelledError) as defect:
            # Some libraries end so what waits on a connection that died, although nobody canceled
            # it. A delivery that is not settled would keep its slot of the prefetch for ever.
            if isinstance(defect, asyncio.CancelledError) and canceled():
                raise
            self._logger.exception(LogEvent.HANDLER_CRASHED)
            await delivery.give_back()

    def _give_back(self, delivery: Delivery) -> None:
        task = asyncio.create_task(delivery.give_back(), name="give back")
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def drain(self, grace_s: float, end_now: asyncio.Event) -> Drained:
        """Start nothing new, let calls finish for `grace_s` or until `end_now`, stop the rest.

        What is stopped is handed back; if the store does not take it back in time, the lease runs
        out and the rescuer does.
        """
        self._closed = True
        waiting = self._buffer.empty()
        for delivery in waiting:
            self._give_back(delivery)
        began = set(self._running)
        await _first_of(self._running, end_now, grace_s)
        unfinished = set(self._running)
        self._abort.set()
        if unfinished:
            await asyncio.wait(unfinished, timeout=HAND_BACK_S)
        await end(*unfinished)
        await asyncio.gather(*self._returning, return_exceptions=True)
        return Drained(len(began) - len(unfinished), len(unfinished), len(waiting))


async def _first_of(
    tasks: Collection[asyncio.Task[None]], end_now: asyncio.Event, within_s: float
) -> None:
    """Return when all tasks are done, when `end_now` is set, or when the time is up."""
    if not tasks:
        return
    hurry = asyncio.create_task(end_now.wait(), name="second signal")
    done = asyncio.create_task(asyncio.wait(tasks), name="calls in flight")
    try:
        await asyncio.wait({hurry, done}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(hurry, done)
