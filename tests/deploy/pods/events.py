"""Waiting with a bound, for tasks and events."""

from __future__ import annotations

import asyncio
from typing import Any


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def first_of(*tasks: asyncio.Task[Any], timeout_s: float | None = None) -> None:
    """Wait until one of them is done, or the time is over. None of them is canceled."""
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
