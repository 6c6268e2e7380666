"""I1, I2: RabbitMQ is away for 20 seconds under load, and no caller notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forebay.testing.polling import pace

from .callers import Callers
from .conftest import running_stack

PER_SECOND = 100
OUTAGE_S = 20
AROUND_S = 3


async def steadily(callers: Callers, seconds: int, first: int) -> list[str]:
    """Submit at a steady rate, whether or not the last ones were answered (an open loop)."""
    submits = [
        asyncio.create_task(callers.submit(first + n))
        async for n in pace(PER_SECOND, seconds * PER_SECOND)
    ]
    return list(await asyncio.gather(*submits))


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("machine_servers")
async def test_a_broker_that_is_away_for_20_seconds_is_not_seen_by_callers(
    tmp_path: Path,
) -> None:
    fast = {f"FOREBAY_{kind}_CONCURRENCY": "200" for kind in ("SEARCH", "CRAWLER", "LLM")}
    async with running_stack(tmp_path, **fast) as (stack, callers):
        broker = stack.servers.rabbitmq
        assert broker is not None
        ids = await steadily(callers, AROUND_S, 0)
        await broker.stop()
        during = await steadily(callers, OUTAGE_S, len(ids))
        assert broker.pid is None, "the broker was not away"
        await broker.start()
        ids += during + await steadily(callers, AROUND_S, len(ids) + len(during))
        jobs = await asyncio.gather(*(callers.wait(job_id) for job_id in ids))
    assert len(set(ids)) == PER_SECOND * (OUTAGE_S + 2 * AROUND_S)
    assert callers.ledger.statuses == {202: len(ids)}
    assert {job["state"] for job in jobs} == {"succeeded"}
