"""Waiting for something to become true of jobs: many wait, one query a tick asks for all of them.

Who waits costs a future and one id in a shared query, whichever process changes the job. Nobody
waiting means no query at all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from itertools import islice
from types import TracebackType
from typing import Self

from forebay.errors import StoreUnavailable
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger

MAX_IDS = 1000
"""Ids in one query at most."""

Ask = Callable[[Collection[str]], Awaitable[frozenset[str]]]
"""Of which of these jobs it is true."""


class Watch:
    """Whoever waits for it to become true; an async context manager around its one loop.

    Args:
        ask: one query of the store.
        name: of the loop, for its task and its log.
        tick_s: from a look to the next, in seconds.
    """

    def __init__(self, ask: Ask, logger: Logger, *, name: str, tick_s: float) -> None:
        self._ask = ask
        self._logger = logger
        self._name = name
        self._tick_s = tick_s
        self._waiters: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)
        self._anybody = asyncio.Event()
        self._released = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"watch: {self._name}")
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
        """How many wait now."""
        return sum(map(len, self._waiters.values()))

    async def until(self, job_id: str, timeout_s: float) -> bool:
        """Whether it became true; False when the time is over or everybody was released."""
        if self._released:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters[job_id].add(future)
        self._anybody.set()
        try:
            await asyncio.wait((future,), timeout=timeout_s)
            return future.done() and future.result()
        finally:
            self._forget(job_id, future)

    def tell(self, job_ids: frozenset[str]) -> None:
        """It became true of these, as somebody heard; who waits for them is woken."""
        self._wake(job_ids)

    def release(self) -> None:
        """Let everybody go: the process stops."""
        self._released = True
        self._wake(frozenset(self._waiters), became_true=False)

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
                self._logger.exception(LogEvent.LOOP_FAILED, loop=self._name)

    async def _look(self) -> None:
        ids = iter(tuple(self._waiters))
        while some := tuple(islice(ids, MAX_IDS)):
            self._wake(await self._ask(some))

    def _wake(self, job_ids: frozenset[str], *, became_true: bool = True) -> None:
        for job_id in job_ids:
            for future in self._waiters.get(job_id, ()):
                if not future.done():
                    future.set_result(became_true)

    def _forget(self, job_id: str, future: asyncio.Future[bool]) -> None:
        waiters = self._waiters[job_id]
        waiters.discard(future)
        if not waiters:
            del self._waiters[job_id]
        if not self._waiters:
            self._anybody.clear()
