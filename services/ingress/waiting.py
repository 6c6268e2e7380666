"""Long-polling: many callers wait, one query a tick asks for all of them.

A caller that waits costs a future and one id in a shared query every 100 ms, whichever replica or
worker finishes the job. Nobody waiting means no query at all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import islice
from types import TracebackType
from typing import Self

from forebay.errors import StoreUnavailable
from forebay.store import JobStore
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger

TICK_S = 0.1
MAX_IDS = 1000
"""Ids in one query at most."""


class Waiting:
    """Whoever waits for a job to finish; an async context manager around its one loop."""

    def __init__(self, store: JobStore, logger: Logger, *, tick_s: float = TICK_S) -> None:
        self._store = store
        self._logger = logger
        self._tick_s = tick_s
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._anybody = asyncio.Event()
        self._released = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="ingress.waiting")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        if self._task is not None:
            await end(self._task)

    @property
    def waiting(self) -> int:
        """Callers that wait now."""
        return sum(map(len, self._waiters.values()))

    async def until_finished(self, job_id: str, timeout_s: float) -> None:
        """Return when the job is terminal or gone, the time is over, or the process stops."""
        if self._released:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[job_id].add(future)
        self._anybody.set()
        try:
            await asyncio.wait((future,), timeout=timeout_s)
        finally:
            self._forget(job_id, future)

    def release(self) -> None:
        """Let everybody go with what is known now: the process stops."""
        self._released = True
        self._wake(frozenset(self._waiters))

    async def _run(self) -> None:
        while True:
            await self._anybody.wait()
            await asyncio.sleep(self._tick_s)
            try:
                await self._look()
            except StoreUnavailable:
                # They keep waiting; the store's own answer comes with the read at the end.
                continue
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop="wait")

    async def _look(self) -> None:
        ids = iter(tuple(self._waiters))
        while some := tuple(islice(ids, MAX_IDS)):
            self._wake(await self._store.finished(some))

    def _wake(self, job_ids: frozenset[str]) -> None:
        for job_id in job_ids:
            for future in self._waiters.get(job_id, ()):
                if not future.done():
                    future.set_result(None)

    def _forget(self, job_id: str, future: asyncio.Future[None]) -> None:
        waiters = self._waiters[job_id]
        waiters.discard(future)
        if not waiters:
            del self._waiters[job_id]
        if not self._waiters:
            self._anybody.clear()
