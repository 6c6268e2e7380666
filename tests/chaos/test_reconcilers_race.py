"""F2: two reconcilers do the same work at the same time, and each piece of it is done once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from forebay.settings import StoreSettings
from forebay.tasks import end
from forebay.testing.polling import until

from .conftest import Rows
from .crash_world import CREW, QUICK_LOOPS, CrashCallers, Sort
from .process_logs import log_lines
from .scene import Scene, check, record, scene

SHORT, LONG = 2, 30
PER_SECOND = 20
RECONCILERS = ("reconciler", "reconciler-2")
HOT_LOOPS = QUICK_LOOPS | {
    # As close to each other as it gets: both look at the same jobs at the same moment.
    "FOREBAY_RECONCILER_RESCUER_EVERY_S": "0.02",
    "FOREBAY_RECONCILER_RELAY_EVERY_S": "0.02",
}


class HandOuts:
    """Counts in the store itself how often a loop made a job queued again."""

    def __init__(self) -> None:
        self.seen = 0

    async def watch(self, stream: Any) -> None:
        """Every change of a job that a loop queued: it leaves the mark of its turn."""
        async for event in stream:
            fields = event["updateDescription"]["updatedFields"]
            self.seen += fields.get("state") == "queued" and "turn" in fields


@asynccontextmanager
async def hand_outs(here: Scene) -> AsyncIterator[HandOuts]:
    url = here.stack.servers.mongodb_url
    database = StoreSettings.model_fields["mongodb_database"].default
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        only = [{"$match": {"operationType": "update"}}]
        async with await client[database]["jobs"].watch(only) as stream:
            counting = HandOuts()
            watching = asyncio.create_task(counting.watch(stream), name="hand-outs")
            try:
                yield counting
            finally:
                await end(watching)


async def calls_in_flight(here: Scene) -> int:
    stats = await here.callers.get(f"{here.stack.providers_url}/_stats")
    return int(stats["search"]["in_flight"])


@pytest.mark.timeout(1800)
async def test_each_lost_lease_is_rescued_once_and_each_due_job_handed_to_one(
    tmp_path: Path, rows: Rows, seed: int, long: bool
) -> None:
    row = rows("F2", "two reconcilers race for lost leases and due jobs")
    async with (
        scene(tmp_path, seed=seed, crew=CREW, callers=CrashCallers, **HOT_LOOPS) as here,
        hand_outs(here) as counted,
    ):
        async with here.load(PER_SECOND):
            here.callers.wanted[Sort.LONG] += 1
            for _ in range(LONG if long else SHORT):
                await until(lambda: some_are_called(here))
                row.injected += 1
                here.stack.kill("search_worker")
                await until(lambda: nobody_is_called(here))
        audit = await here.settled(within_s=300)
        record(row, here, audit)
        done = Counter({name: rescued(here, name) + handed_out(here, name) for name in RECONCILERS})
        row.figures |= {"handed_out": counted.seen, "done_by_each": [*done.values()]}
        row.duplicates += max(done.total() - counted.seen, 0)
        check(here, audit)
        assert min(done.values()) > 0, "one of them did nothing: there was no race"
        # Fewer when an answer was lost on the way; more would be a job in the hands of two.
        assert 0 < done.total() <= counted.seen
        row.survived = row.injected


async def some_are_called(here: Scene) -> bool:
    return await calls_in_flight(here) >= 3


async def nobody_is_called(here: Scene) -> bool:
    return await calls_in_flight(here) == 0


def rescued(here: Scene, name: str) -> int:
    """Jobs that this reconciler took back, by its own words."""
    return sum(line.get("queued", 0) for line in log_lines(here.stack.log(name), "rescuer.rescued"))


def handed_out(here: Scene, name: str) -> int:
    """Jobs whose time came that this reconciler got to publish, by its own words."""
    lines = log_lines(here.stack.log(name), "relay.published")
    return sum(line["wanted"] for line in lines if line["reason"] == "due")
