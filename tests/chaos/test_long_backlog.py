"""A long, healthy backlog is left alone: what waits is not published again (under 1 %).

The backlog is made through the API, so the ingress publishes it. Its head is slow and keeps the
worker's ten slots busy for the time that is measured; the rest is quick, so that the test ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import quantiles

import pytest

from forebay.jobs import JobKind, JobState, Lane
from forebay.testing.polling import pace

from .broker_hands import Hands, answers, hands, ingress_metric, metric, submit
from .conftest import Rows
from .own_jobs import jobs_of
from .patient_callers import passed
from .scene import Scene, check, record, scene

CONCURRENCY = 10
CALLERS = 64
ROUTE = JobKind.SEARCH, Lane.DEFAULT
MOST_DUPLICATES = 0.01


@dataclass(frozen=True)
class Size:
    """How much, and for how long."""

    jobs: int
    """Submitted in all; a few of them are worked off before the last one is in."""
    slow: int
    """The first of them, each of one second."""
    waiting: int
    """So many wait when the measuring begins."""
    measured_s: float


FULL = Size(jobs=105_000, slow=5_500, waiting=100_000, measured_s=300)


@dataclass
class Beside:
    """Jobs of another kind, submitted beside the backlog."""

    accept_s: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def one(self, here: Scene) -> None:
        """Submit one and note how long the 202 took."""
        began = time.monotonic()
        job_id = await submit(here, JobKind.LLM)
        self.accept_s.append(time.monotonic() - began)
        self.ids.append(job_id)

    async def figures(self, here: Scene) -> dict[str, float]:
        """How quick the 202 and the claim were."""
        waits = [job.history[0].queue_wait_ms for job in (await jobs_of(here, self.ids)).values()]
        return {
            "accept_ms_p50": round(_percent(self.accept_s, 50) * 1000, 1),
            "accept_ms_p99": round(_percent(self.accept_s, 99) * 1000, 1),
            "claim_ms_p50": _percent(waits, 50),
            "claim_ms_p99": _percent(waits, 99),
        }


def _percent(values: list[float] | list[int], rank: int) -> float:
    return quantiles(values, n=100, method="inclusive")[rank - 1]


async def fill(here: Scene, size: Size) -> None:
    """Submit them all, as quickly as the ingress takes them from that many callers."""
    numbers = count()

    async def caller() -> None:
        while (number := next(numbers)) < size.jobs:
            wish = " [simulate latency=1]" if number < size.slow else ""
            body = {"query": f"backwater {number}{wish}"}
            await here.callers.submit_to("/v1/search", body, f"backlog-{number}")

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


@asynccontextmanager
async def beside(here: Scene, per_second: float) -> AsyncIterator[Beside]:
    """Submit quick jobs of another kind meanwhile."""
    seen, enough = Beside(), asyncio.Event()

    async def submit_all() -> None:
        async with asyncio.TaskGroup() as group:
            async for _ in pace(per_second, 1_000_000):
                if enough.is_set():
                    return
                group.create_task(seen.one(here))

    submitting = asyncio.create_task(submit_all())
    try:
        yield seen
    finally:
        enough.set()
        await submitting


async def waiting(here: Scene) -> int:
    """Searches that are queued."""
    return sum(
        part.count
        for part in await here.store.backlog()
        if (part.kind, part.lane, part.state) == (*ROUTE, JobState.QUEUED)
    )


async def confirmed(here: Scene) -> int:
    """Messages of jobs that the broker confirmed to anybody."""
    name, reconciler = "forebay_messages_published_total", here.stack.probes["reconciler"]
    by_ingress = await ingress_metric(here, name, outcome="confirmed")
    return int(by_ingress + await metric(reconciler, name, outcome="confirmed"))


async def stays(here: Scene) -> int:
    """How often a job came to be queued: each of these needs one message."""
    reconciler = here.stack.probes["reconciler"]
    due = await metric(reconciler, "forebay_relayed_total", reason="due")
    rescued = await metric(reconciler, "forebay_rescued_total", state="queued")
    return int(answers(here)[202] + due + rescued)


async def told(here: Scene, broker: Hands) -> dict[str, int]:
    """Messages beyond one for each stay in `queued`, by our count and by the broker's."""
    searches = sum(key.startswith("backlog-") for key in here.callers.ledger.accepted)
    return {
        "published_twice": await confirmed(here) - await stays(here),
        "published_twice_by_the_brokers_count": await broker.published_into(*ROUTE) - searches,
    }


@pytest.mark.long_only("a quarter of an hour")
@pytest.mark.timeout(3600)
async def test_a_backlog_of_100_000_is_not_published_again_while_it_waits(
    tmp_path: Path, rows: Rows, seed: int
):
    await backlog_waits(tmp_path, rows, seed, FULL)


async def backlog_waits(tmp_path: Path, rows: Rows, seed: int, size: Size) -> None:
    row = rows("-", f"{size.waiting} jobs wait for {size.measured_s:.0f} s with slow workers")
    narrow = {"FOREBAY_SEARCH_CONCURRENCY": str(CONCURRENCY)}
    async with scene(tmp_path, seed=seed, **narrow) as here, hands(here) as broker:
        began = time.monotonic()
        await fill(here, size)
        row.figures["filled_per_s"] = round(size.jobs / (time.monotonic() - began))
        row.figures["waiting_at_first"] = at_first = await waiting(here)
        async with beside(here, per_second=5) as others:
            await passed(size.measured_s)
        row.figures["waiting_at_last"] = at_last = await waiting(here)
        told_while_waiting = await told(here, broker)
        row.figures |= told_while_waiting
        row.figures |= await others.figures(here)
        row.injected = int(at_first >= size.waiting and at_last >= size.waiting * 0.9)
        began = time.monotonic()
        audit = await here.settled(within_s=1500)
        row.figures["worked_off_s"] = round(time.monotonic() - began)
        at_the_end = await told(here, broker)
        row.figures |= {f"{name}_at_the_end": times for name, times in at_the_end.items()}
        record(row, here, audit)
        check(here, audit)
        assert row.injected, "too few jobs waited"
        # Below nothing is a meter that does not count.
        assert min(at_the_end.values()) >= 0
        for times in (*told_while_waiting.values(), *at_the_end.values()):
            assert times < size.jobs * MOST_DUPLICATES
        row.survived = row.injected
