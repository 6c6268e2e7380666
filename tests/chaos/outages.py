"""Taking the broker away from a running system, and watching every lane come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median

from forebay.jobs import JobKind, Lane
from forebay.local.rabbitmq import RabbitMQNode
from forebay.testing.polling import pace

from .broker_hands import ROUTES, submit, worker_metric
from .patient_callers import passed
from .process_figures import is_there
from .report import Row
from .scene import Scene

CONSUMING_AGAIN_WITHIN_S = 60.0
LOOKS_PER_S = 2


@dataclass
class Restart:
    """One time that the broker was away, and what became of a job of each lane after it."""

    row: Row
    up_at: float
    watched: set[asyncio.Task[float]] = field(default_factory=set)
    """Each ends with the seconds from the broker's return to the end of a lane's first job."""

    def again_s(self) -> float | None:
        """When the last lane was consumed again; None while one is not."""
        if not all(task.done() for task in self.watched):
            return None
        return max(task.result() for task in self.watched)


class Outages:
    """One outage after the other."""

    def __init__(self, here: Scene, node: RabbitMQNode) -> None:
        self.restarts: list[Restart] = []
        self.cut_short = 0
        self._here = here
        self._node = node

    async def one(self, row: Row, take_away: Callable[[], Awaitable[None]], up_s: float) -> None:
        """Take it away, bring it back, and leave it for `up_s` seconds."""
        before = self._node.pid
        await take_away()
        gone = self._node.pid is None and not is_there(before)
        await self._node.start()
        if not gone or self._node.pid == before:
            row.void += 1
            return
        row.injected += 1
        restart = Restart(row, time.monotonic())
        self.restarts.append(restart)
        restart.watched = {
            asyncio.create_task(self._consumed(restart.up_at, *route)) for route in ROUTES
        }
        await passed(up_s)
        self.cut_short += restart.again_s() is None

    async def _consumed(self, up_at: float, kind: JobKind, lane: Lane) -> float:
        """When the first job of a lane was done: a new one, or one that waited before it."""
        before = await self._done(kind, lane)
        await submit(self._here, kind, lane=lane)
        async for _ in pace(LOOKS_PER_S, 120 * LOOKS_PER_S):
            if await self._done(kind, lane) > before:
                break
        return time.monotonic() - up_at

    async def _done(self, kind: JobKind, lane: Lane) -> float:
        name = "forebay_queue_wait_seconds_count"
        return await worker_metric(self._here, kind, name, lane=lane.value)

    async def over(self) -> None:
        """Wait for the lanes that are still watched."""
        for restart in self.restarts:
            await asyncio.wait(restart.watched)

    def survived(self, row: Row) -> int:
        """After how many every lane was consumed again in time, other outages in between or not."""
        times = [restart.again_s() for restart in self.restarts if restart.row is row]
        return sum(again_s is not None and again_s < CONSUMING_AGAIN_WITHIN_S for again_s in times)

    def figures(self, row: Row) -> dict[str, float]:
        """How long it took until the first and until every lane was consumed again."""
        mine = [restart for restart in self.restarts if restart.row is row]
        first = [min(task.result() for task in one.watched) for one in mine]
        every = [max(task.result() for task in one.watched) for one in mine]
        return {
            "first_lane_again_s_median": round(median(first), 1),
            "every_lane_again_s_median": round(median(every), 1),
            "every_lane_again_s_max": round(max(every), 1),
        }
