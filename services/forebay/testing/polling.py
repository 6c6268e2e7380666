"""Waiting for what other processes do: the only place in the tests' reach where time passes.

Inside one process wait for its own signal (an event, a future). Another process gives none, so it
is asked again and again, within a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

EVERY_S = 0.05


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Return when `condition` answers True; raises `TimeoutError` after `within_s` seconds."""
    clock = asyncio.get_running_loop().time
    ends = clock() + within_s
    async with asyncio.timeout(within_s):
        while not await condition():
            # The condition may have lost the cancellation (`forebay.tasks`), which comes only once.
            if clock() >= ends:
                raise TimeoutError
            await asyncio.sleep(EVERY_S)


async def span(seconds: float) -> None:
    """Let a time pass that is itself what is measured over."""
    await asyncio.sleep(seconds)


async def pace(per_second: float, count: int) -> AsyncIterator[int]:
    """Count at a steady rate, from the scheduled times: an open loop, however slow the body is."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for n in range(count):
        await asyncio.sleep(max(began + n / per_second - loop.time(), 0))
        yield n
