"""Ending background tasks, also those in which a library loses a cancellation."""

from __future__ import annotations

import asyncio

from forebay.tasks import end


async def deaf(times: int, heard: list[int]) -> None:
    """Lose the first cancellations, as `asyncio.wait_for` may do on Python 3.11."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(len(heard))
            if len(heard) > times:
                raise


async def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    heard: list[int] = []
    task = asyncio.create_task(deaf(2, heard))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert task.cancelled()
    assert len(heard) == 3


async def test_what_is_done_already_is_left_alone() -> None:
    async def answer() -> int:
        return 42

    task = asyncio.create_task(answer())
    await task
    await end(task)
    assert task.result() == 42


async def test_an_error_stays_in_its_task() -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await end(task)
    assert isinstance(task.exception(), ZeroDivisionError)
