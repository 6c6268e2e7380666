"""The refiller publishes again what the broker had confirmed and lost.

Theory of operation. A queue was wiped, deleted with its messages, or dropped a message after too
many deliveries. There are three signs, and a queue that shows none is left alone, however long it
is: a healthy backlog is not published twice.

- The queue is *seen empty*. Every job published before that moment that still waits is lost,
  however much is in the queue again by now. All of them go out, page after page, and none waits
  until the queue is drained again.
- A job was *overtaken*: another one of its route runs whose message was published well after its
  own. A queue is first in, first out. This finds what was wiped under an overload, where the queue
  is never empty. Only jobs published once and promptly count as overtakers: one that was published
  again may run by its old message, and would make all that waits between the two look lost.
- The queue is *too short*: fewer messages than jobs that wait for one, by more than a batch, which
  is for messages in the hands of workers: they are in nobody's count. What is missing is the
  oldest. This needs nobody who works.

What is published again counts as published now, so nothing is lost twice for the same reason. What
a worker holds without having begun may be published again; that costs a message which the claim
absorbs, and it lengthens the queue, so such messages do not pile up.

Limits. What was published less than `lost_after_s` before is given that time first. Which queue was
seen empty is kept in memory: after a restart in the middle of a refill the other signs are left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from forebay.broker import Queues
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.jobs import JobKind, JobState, Lane
from forebay.store import JobRef, JobStore, Route
from reconciler.outbox import Outbox

_ROUTES: tuple[Route, ...] = tuple((kind, lane) for kind in JobKind for lane in Lane)
_PROMPT_S = 5.0
"""An overtaker was published within this of being queued, and this long after what it overtook."""
_PAGES = 10
"""Pages of one route before the others have their turn."""
_TICK_S = 0.001
"""The store's times are whole milliseconds: what was published in that same one is not lost."""


@dataclass(slots=True)
class _Emptied:
    """A queue that was seen empty."""

    at: float
    """When, by the refiller's clock."""
    reached: datetime | None = None
    """How far the refill came: the last `queued_at`."""


class Refiller:
    """Refills emptied queues.

    Args:
        lost_after_s: how long a confirmed message may wait in an empty queue before it is lost.
        batch: jobs taken at once of each route.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: JobStore,
        queues: Queues,
        outbox: Outbox,
        *,
        lost_after_s: float,
        batch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queues = queues
        self._outbox = outbox
        self._lost_after_s = lost_after_s
        self._batch = batch
        self._clock = clock
        self._emptied: dict[Route, _Emptied] = {}

    async def turn(self) -> bool:
        """Look at every route once; True when one of them was refilled and may lack more."""
        queued = await self._queued()
        more = False
        for route in _ROUTES:
            # The time before the question: what is published while it is answered is not lost.
            asked_at = self._clock()
            there = await self._queues.waiting(*route)
            if there == 0:
                self._emptied.setdefault(route, _Emptied(asked_at)).at = asked_at
            if route in self._emptied:
                more = await self._refill_emptied(route) or more
            elif there is not None and queued.get(route, 0) - there > self._batch:
                more = await self._refill_short(route, there) or more
            if there and route in queued:
                more = await self._refill_overtaken(route) or more
        return more

    async def _queued(self) -> dict[Route, int]:
        """Queued jobs of each route, published or not: counted from an index alone."""
        return {
            (part.kind, part.lane): part.count
            for part in await self._store.backlog()
            if part.state is JobState.QUEUED
        }

    async def _refill_emptied(self, route: Route) -> bool:
        """Publish what waited when the queue was empty; True when there may be more of it."""
        emptied = self._emptied[route]
        since_s = self._clock() - emptied.at
        age_s = max(self._lost_after_s, since_s + _TICK_S)
        for _ in range(_PAGES):
            lost = await self._lost(route, age_s, self._batch, emptied.reached)
            if await self._publish(lost) < self._batch:
                break
            emptied.reached = lost[-1].queued_at
        else:
            return True
        emptied.reached = None
        if not lost and since_s >= self._lost_after_s:
            # Whatever was there before is old enough by now, and none of it waits.
            del self._emptied[route]
        return False

    async def _refill_overtaken(self, route: Route) -> bool:
        """Publish a page of what others overtook; True when there may be more of it."""
        newest_s = await self._store.newest_running(route, _PROMPT_S)
        if newest_s is None:
            return False
        age_s = max(self._lost_after_s, newest_s + _PROMPT_S)
        lost = await self._lost(route, age_s, self._batch, None)
        return await self._publish(lost) == self._batch

    async def _refill_short(self, route: Route, there: int) -> bool:
        """Publish as many of the oldest as the queue lacks; True when there may be more of them."""
        lacking = await self._store.confirmed(route) - there - self._batch
        reached = None
        for _ in range(_PAGES):
            page = min(lacking, self._batch)
            if page <= 0:
                return False
            lost = await self._lost(route, self._lost_after_s, page, reached)
            if await self._publish(lost) < page:
                return False
            lacking -= page
            reached = lost[-1].queued_at
        return True

    async def _lost(
        self, route: Route, age_s: float, limit: int, after: datetime | None
    ) -> Sequence[JobRef]:
        lost = await self._store.unclaimed(route, age_s, limit, after)
        if lost:
            crashpoint(CrashPoint.REFILLER_AFTER_LOOK)
        return lost

    async def _publish(self, lost: Sequence[JobRef]) -> int:
        sent = await self._outbox.publish("lost", lost)
        return sent.confirmed
