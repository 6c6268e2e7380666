"""Counts the jobs that a worker ended, for the rate at which their queues are worked off."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

from forebay.errors import StoreUnavailable
from forebay.jobs import Job
from forebay.pace import Route
from forebay.store.paces import PaceStore
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger

EVERY_S = 2.0
"""One small write for all that ended meanwhile."""


class Tally:
    """Adds to the store what ended; an async context manager around its one loop.

    Limit: what ended in the last seconds of a worker that is killed is not counted, and what was
    counted while the store's answer was lost is counted twice.
    """

    def __init__(self, paces: PaceStore, logger: Logger, *, every_s: float = EVERY_S) -> None:
        self._paces = paces
        self._logger = logger
        self._every_s = every_s
        self._ended: Counter[Route] = Counter()
        self._task: asyncio.Task[None] | None = None

    def ended(self, job: Job) -> None:
        """This job has its end."""
        self._ended[job.kind, job.lane] += 1

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="tally")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._add()
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop="tally")

    async def _add(self) -> None:
        ended, self._ended = self._ended, Counter()
        if not ended:
            return
        try:
            await self._paces.add_ended(ended)
        except StoreUnavailable:
            self._ended.update(ended)  # with the next ones
