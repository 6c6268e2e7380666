"""`?wait=`: how soon a waiting caller hears of the end, and what many who wait cost.

`--count=2000` is the long form: they wait 20 s each.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.local.stack import Stack
from forebay.testing.polling import span
from tests.chaos.process_figures import cpu_seconds

WAITING = 500
ASKING_AGAIN = 100
"""A second: so many who wait, each as long as this makes of it, cost about the same."""
ENDS = 200
LATE_S, LATE_WHEN_BUSY_S = 0.1, 0.5
"""The second for a busy machine; looks at the store alone would make it 2 s."""
CORE_SHARE = 0.2


async def submit(session: aiohttp.ClientSession, url: str, body: Any) -> str:
    async with session.post(f"{url}/v1/jobs", json=body) as answer:
        assert answer.status == 202
        return str((await answer.json())["id"])


async def how_late_s(session: aiohttp.ClientSession, url: str, n: int) -> float:
    """From the end of a job, by the store's clock, to its caller's answer: one clock here."""
    latency = 0.2 + n / ENDS
    query = f"end {n} [simulate latency={latency:.2f}]"
    job_id = await submit(session, url, {"kind": "search", "input": {"query": query}})
    async with session.get(f"{url}/v1/jobs/{job_id}?wait=20") as answer:
        heard = datetime.now(UTC)
        job = await answer.json()
    assert job["state"] == "succeeded"
    return (heard - datetime.fromisoformat(job["finished_at"])).total_seconds()


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_who_waits_hears_of_the_end_at_once_and_waiting_costs_little(
    tmp_path: Path, request: pytest.FixtureRequest, figures: list[str]
) -> None:
    waiting = request.config.getoption("--count") or WAITING
    wait_s = waiting / ASKING_AGAIN
    connector = aiohttp.TCPConnector(limit=0)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    scheduled = {"kind": "search", "input": {"query": "later"}, "not_before": later}
    async with (
        Stack(tmp_path) as stack,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        url = stack.ingress_url
        late = await asyncio.gather(*(how_late_s(session, url, n) for n in range(ENDS)))
        p95 = statistics.quantiles(late, n=20)[-1]

        over = asyncio.Event()

        async def wait_on_and_on(job_id: str) -> None:
            while not over.is_set():
                async with session.get(f"{url}/v1/jobs/{job_id}?wait={wait_s:g}") as answer:
                    assert answer.status == 200

        ids = [await submit(session, url, scheduled) for _ in range(20)]
        callers = [asyncio.create_task(wait_on_and_on(ids[n % 20])) for n in range(waiting)]
        try:
            # Who arrives at once asks again at once: in the middle of what is measured.
            await span(wait_s / 2)
            (pid,) = stack.pids("ingress")
            began, spent = time.monotonic(), cpu_seconds(pid)
            await span(wait_s)
            share = (cpu_seconds(pid) - spent) / (time.monotonic() - began)
        finally:
            over.set()
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    figures.append(
        f"waiting: {ENDS} ends heard of after {p95 * 1000:.0f} ms (p95); "
        f"{waiting} who wait {wait_s:g} s cost {share:.1%} of a core"
    )
    assert p95 <= (LATE_S if request.config.getoption("--count") else LATE_WHEN_BUSY_S)
    assert share < CORE_SHARE
