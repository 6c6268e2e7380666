"""Whether there is room for more jobs: back-pressure by Little's law (docs/decisions/0011).

A job that would wait longer for its turn than the bound is not accepted: its caller is told so now,
and when to come again, instead of finding out in an hour. It is decided for each kind and lane,
from what the census says every few seconds and what came in here since.

Limit: several ingresses do not know of each other between two censuses, so each may take what room
there was. What is not known refuses nobody: no census for a minute, or no rate yet and nothing old.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from math import ceil, inf, isfinite
from time import monotonic
from types import TracebackType
from typing import Self

from forebay.errors import StoreUnavailable
from forebay.jobs import Job
from forebay.pace import Pace, Route
from forebay.store.paces import PaceStore
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from ingress.problems import ProblemCode, RequestRefused

LOOK_S = 2.0
"""How often an ingress reads what the census told: one small document."""
HOLDS_S = 60.0
"""How long it holds: after a minute without a census nobody is refused on the ground of it."""
NOBODY_KNOWS_S = 30
"""When to come again if nothing ends at all."""


class Room:
    """What there is room for; an async context manager around the loop that keeps it known.

    Args:
        max_age_s: how long a job may wait for its turn; 0: everything is let in.
    """

    def __init__(
        self,
        paces: PaceStore,
        max_age_s: float,
        logger: Logger,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = paces
        self._max_age_s = max_age_s
        self._logger = logger
        self._clock = clock
        self._turn: int | None = None
        self._heard_at = 0.0
        self._paces: dict[Route, Pace] = {}
        self._entered: Counter[Route] = Counter()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._max_age_s:
            self._task = asyncio.create_task(self._run(), name="ingress.room")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            await end(self._task)

    @property
    def bounded(self) -> bool:
        """Whether any queue may be full for anybody now."""
        return any(pace.free(self._max_age_s) < inf for pace in self._known.values())

    def wanted(self, *jobs: Job) -> Counter[Route]:
        """What these new jobs take, by queue; one that begins after the bound meets other jobs."""
        patience = timedelta(seconds=self._max_age_s)
        return Counter(
            (job.kind, job.lane)
            for job in jobs
            if job.not_before is None or job.not_before - job.created_at < patience
        )

    def enter(self, wanted: Mapping[Route, int]) -> None:
        """Take all of it or nothing; raises `RequestRefused` when there is no room for all."""
        known = self._known
        for queue, count in wanted.items():
            if queue in known:
                self._require(known[queue], count)
        self._entered.update(wanted)

    def leave(self, wanted: Counter[Route]) -> None:
        """Give back what was entered for jobs that were there before: they wait already."""
        self._entered -= wanted

    def _require(self, pace: Pace, count: int) -> None:
        free = pace.free(self._max_age_s) - self._entered[pace.route]
        if count > free:
            raise _full(pace, count, free, self._max_age_s)

    @property
    def _known(self) -> Mapping[Route, Pace]:
        holds = self._clock() - self._heard_at < HOLDS_S
        return self._paces if self._max_age_s and holds else {}

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except StoreUnavailable:
                pass  # what was known holds for a while
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop="room")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Read what the census told."""
        told = await self._store.told()
        if told is None or told.turn == self._turn:
            return
        is_first, self._turn = self._turn is None, told.turn
        if is_first:
            return  # it may be from yesterday: only one that comes while we look is known as new
        self._heard_at = self._clock()
        self._paces = {pace.route: pace for pace in told.paces}
        self._entered.clear()


def _full(pace: Pace, count: int, free: float, max_age_s: float) -> RequestRefused:
    wait_s = NOBODY_KNOWS_S if pace.per_s is None else ceil((count - free) / pace.per_s)
    # Jitter, so that all who are refused together do not return together.
    wait_s += int(random.random() * max(4, wait_s // 2))  # noqa: S311 - spreads load
    wait_s = max(min(wait_s, ceil(max_age_s)), 1)
    fit = f" Of {count} jobs {max(int(free), 0)} would fit now." if count > 1 else ""
    if not isfinite(free):
        fit = ""
    return RequestRefused(
        ProblemCode.OVERLOADED,
        f"So many {pace.kind} jobs of the lane `{pace.lane}` wait that one more would wait over "
        f"{max_age_s:g} s; nothing was accepted.{fit} Try again in {wait_s} s.",
        retry_after_s=wait_s,
    )
