from __future__ import annotations

import asyncio

import pytest

from forebay.testing.polling import until


async def test_a_condition_that_loses_the_cancellation_is_given_up_all_the_same():
    never = asyncio.Event()
    asked = 0

    async def deaf() -> bool:
        nonlocal asked
        asked += 1
        try:
            async with asyncio.timeout(0.05):
                await never.wait()
        except (asyncio.CancelledError, TimeoutError):
            pass
        return False

    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await until(deaf, 0.02)
    assert asked == 1
