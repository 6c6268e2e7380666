"""One call for all who ask for the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from forebay.errors import StoreUnavailable

Answer = TypeVar("Answer")


class SingleFlight(Generic[Answer]):
    """Calls of the store by name, each at most once at a time and bounded in time.

    A call goes on when a caller who waits for it leaves: another may wait for it too.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._calls: dict[str, asyncio.Task[Answer]] = {}

    def begin(self, name: str, call: Callable[[], Awaitable[Answer]]) -> asyncio.Task[Answer]:
        """The call under this name that is under way, or a new one; nobody need wait for it."""
        there = self._calls.get(name)
        if there is not None:
            return there
        task = asyncio.create_task(self._bounded(call), name=f"single flight {name}")
        self._calls[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))
        return task

    async def answer(self, name: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """What it says; raises what it raises, and `StoreUnavailable` when it takes too long."""
        return await asyncio.shield(self.begin(name, call))

    async def _bounded(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(self._within_s):
                return await call()
        except TimeoutError:
            raise StoreUnavailable from None

    def _ended(self, name: str, task: asyncio.Task[Answer]) -> None:
        del self._calls[name]
        if not task.cancelled():
            task.exception()  # Somebody may have waited or not; asyncio need not warn of it.
