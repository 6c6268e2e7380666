"""I7: three times the load that can be worked off (F24).

What the system bears is measured first, with a backlog that keeps the workers busy: the simulated
provider's latency decides it, so a busy machine changes little. Goodput is what gets done, not what
gets accepted.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.jobs import JobKind, JobState
from forebay.testing.polling import pace, span, until

from .conftest import Rows
from .process_figures import memory_mib
from .scene import Scene, check, record, scene

SLOTS, CALL_S = 20, 1.0
"""Twenty calls a second at most: far less than the machine bears, also when it is busy."""
MEASURED_S = 8.0
MAX_AGE_S = 8.0
TIMES = 3
GOODPUT = 0.8
BACK_WITHIN_S = 30.0
MOST_GROWTH_MIB = 64
SETTINGS = {
    "FOREBAY_SEARCH_CONCURRENCY": str(SLOTS),
    "FOREBAY_RECONCILER_CENSUS_EVERY_S": "1",
    "FOREBAY_INGRESS_MAX_BACKLOG_AGE_S": f"{MAX_AGE_S:g}",
}


@dataclass
class Callers:
    """They send at a fixed rate, whatever is answered, and do not come back."""

    here: Scene
    session: aiohttp.ClientSession
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    numbers: Any = field(default_factory=itertools.count)

    async def send(self, per_s: float, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            async for _ in pace(per_s, int(per_s * seconds)):
                group.create_task(self.send_one())

    async def send_one(self) -> int:
        number = next(self.numbers)
        body = {"query": f"dam {number} [simulate latency={CALL_S:g}]"}
        key = f"overload-{number}"
        url = f"{self.here.stack.ingress_url}/v1/search"
        headers = {"Idempotency-Key": key}
        async with self.session.post(url, json=body, headers=headers) as answer:
            said = await answer.json(content_type=None)
            told = {"key": key, "result_ttl_s": None}
            self.here.callers.ledger.note("POST", "/v1/search", answer.status, said, **told)
            self.statuses[answer.status] += 1
            if answer.status != 202:
                self.codes[said["code"]] += 1
                self.without_retry_after += "Retry-After" not in answer.headers
            return answer.status


@asynccontextmanager
async def calling(here: Scene) -> AsyncIterator[Callers]:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Callers(here, session)


async def ended(here: Scene) -> int:
    """Searches that ended so far, as their workers counted them."""
    counted = await here.store.paces.ended()
    return sum(count for (kind, _), count in counted.items() if kind is JobKind.SEARCH)


async def waiting(here: Scene) -> int:
    states = (JobState.QUEUED, JobState.RETRYING)
    return sum(part.count for part in await here.store.backlog() if part.state in states)


async def rate_over(here: Scene, seconds: float) -> float:
    began, before = time.monotonic(), await ended(here)
    await span(seconds)
    return (await ended(here) - before) / (time.monotonic() - began)


@pytest.mark.timeout(400)
async def test_three_times_the_load_is_refused_in_time_and_what_is_accepted_gets_done(
    tmp_path: Path, rows: Rows, long: bool
) -> None:
    row = rows("F24", f"{TIMES} times the load that is worked off")
    overload_s = 60.0 if long else 20.0
    async with scene(tmp_path, **SETTINGS) as here, calling(here) as callers:
        # Twice what the slots could do at best, without any other call in the way.
        measuring = asyncio.create_task(callers.send(2 * SLOTS / CALL_S, MEASURED_S + 4))
        await span(4)
        rated = await rate_over(here, MEASURED_S)
        await measuring
        (ingress,) = here.stack.pids("ingress")
        memory, most_waiting = memory_mib(ingress), 0
        callers.statuses.clear()

        async def watch() -> None:
            nonlocal most_waiting
            while True:
                most_waiting = max(most_waiting, await waiting(here))
                await span(0.5)

        watching = asyncio.create_task(watch())
        overloading = asyncio.create_task(callers.send(TIMES * rated, overload_s))
        goodput = await rate_over(here, overload_s)
        await overloading
        watching.cancel()
        over = time.monotonic()

        async def accepts_again() -> bool:
            return await callers.send_one() == 202

        await until(accepts_again, BACK_WITHIN_S)
        row.injected += 1
        row.figures |= {
            "rated_per_s": round(rated, 1),
            "goodput_per_s": round(goodput, 1),
            "goodput_of_rated": round(goodput / rated, 2),
            "accepted_again_after_s": round(time.monotonic() - over, 1),
            "ingress_growth_mib": round(memory_mib(ingress) - memory, 1),
            "most_waiting": most_waiting,
            **{f"answers_{status}": count for status, count in callers.statuses.items()},
        }
        audit = await here.settled()
        record(row, here, audit)
        check(here, audit)
        assert set(callers.statuses) == {202, 503}
        assert set(callers.codes) == {"overloaded"}
        assert callers.without_retry_after == 0
        assert callers.statuses[503] > callers.statuses[202] / 2, "it was no overload"
        assert goodput >= GOODPUT * rated
        # The bound, and what comes in until the next look.
        assert most_waiting <= rated * (MAX_AGE_S + 3 * TIMES)
        assert memory_mib(ingress) - memory <= MOST_GROWTH_MIB
        row.survived += 1
