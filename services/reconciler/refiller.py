"""The refiller publishes again what the broker had confirmed and lost.

Theory of operation. A queue was wiped, deleted with its messages, or dropped a message after too
many deliveries. There are three signs, and a queue that shows none is left alone, however long it
is: a healthy backlog is not published twice.

- The queue is *seen empty*. Every job published before that moment that still waits is lost,
  however much is in the queue again by now. All of them go out, page after page, and none waits
  until the queue is drained again.
- A job was *overtaken*: another one of its route runs that came to be queued well after the job's
  own message was published. A queue is first in, first out. This finds what was wiped under an
  overload, where the queue is never empty. An overtaker counts from when it was queued, for it may
  have several messages (published late by the relay, or again here) and run by any of them; but
  each was published after that. And it counts only while it runs for the first time: later it may
  run by a message of an earlier stay, and would make all that waits between the two look lost.
- The queue is *too short*: fewer messages than jobs that wait for one, by more than a batch, which
  is for messages in the hands of workers: they are in nobody's count. What is missing is the
  oldest. This needs nobody who works.

What is published again counts as published now, so nothing is lost twice for the same reason. What
a worker holds without having begun may be published again; that costs a message which the claim
absorbs, and it lengthens the queue, so such messages do not pile up. What fails for one route, a
count that takes too long or a queue that does not answer, is logged and costs the others nothing.

Limits. What was published less than `lost_after_s` before is given that time first. Which queue was
seen empty is kept in memory: after a restart in the middle of a refill the other signs are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from forebay.broker import Queues
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import ForebayError
from forebay.jobs import JobKind, Lane
from forebay.store import JobRef, JobStore, Route
from forebay.store.updates import FAST_CLOCK_S
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from reconciler.loop import loop_time
from reconciler.outbox import Outbox

_ROUTES: tuple[Route, ...] = tuple((kind, lane) for kind in JobKind for lane in Lane)
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


@dataclass(frozen=True, slots=True)
class RefillRules:
    """When a message counts as lost, and how much is looked at."""

    lost_after_s: float
    """How long a confirmed message may wait in an empty queue before it is lost."""
    batch: int
    """Jobs taken at once of each route."""


class Refiller:
    """Refills queues that lost messages.

    Args:
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: JobStore,
        queues: Queues,
        outbox: Outbox,
        logger: Logger,
        rules: RefillRules,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        self._store = store
        self._queues = queues
        self._outbox = outbox
        self._logger = logger
        self._lost_after_s = rules.lost_after_s
        self._batch = rules.batch
        self._clock = clock
        self._emptied: dict[Route, _Emptied] = {}

    async def turn(self) -> bool:
        """Look at every route once; True when one of them was refilled and may lack more."""
        # A store that is away fails the turn at once, and not one route after another.
        await self._store.ping()
        more = False
        for route in _ROUTES:
            more = await self._fenced(route) or more
        return more

    async def _fenced(self, route: Route) -> bool:
        """Look at one route; what fails there is said, and leaves the others alone."""
        about = {"loop": "refiller", "route": ".".join(route)}
        try:
            return await self._look_at(route)
        except ForebayError as error:
            self._logger.warning(LogEvent.LOOP_FAILED, error=str(error), **about)
        except Exception:
            self._logger.exception(LogEvent.LOOP_FAILED, **about)
        return False

    async def _look_at(self, route: Route) -> bool:
        # The time before the question: what is published while it is answered is not lost.
        asked_at = self._clock()
        there = await self._queues.waiting(*route)
        if there is None:
            # Nothing could be published either; to try would hold up the other routes.
            return False
        if there == 0:
            self._emptied.setdefault(route, _Emptied(asked_at)).at = asked_at
        more = False
        if route in self._emptied:
            more = await self._refill_emptied(route)
        else:
            more = await self._refill_short(route, there)
        if there:
            more = await self._refill_overtaken(route) or more
        return more

    async def _refill_emptied(self, route: Route) -> bool:
        """Publish what waited when the queue was empty; True when there may be more of it."""
        emptied = self._emptied[route]
        for _ in range(_PAGES):
            # For each page anew: time goes on, and what came after that moment is not lost.
            since_s = self._clock() - emptied.at
            age_s = max(self._lost_after_s, since_s + _TICK_S)
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
        newest_s = await self._store.newest_running(route)
        if newest_s is None:
            return False
        # The clock of whoever submitted the newest may be ahead by so much.
        age_s = max(self._lost_after_s, newest_s + FAST_CLOCK_S)
        lost = await self._lost(route, age_s, self._batch, None)
        return await self._publish(lost) == self._batch

    async def _refill_short(self, route: Route, there: int) -> bool:
        """Publish as many of the oldest as the queue lacks; True when there may be more of them."""
        healthy = there + self._batch
        most = healthy + self._batch * _PAGES
        lacking = await self._store.confirmed(route, most) - healthy
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
