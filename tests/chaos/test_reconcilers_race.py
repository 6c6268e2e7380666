"""F2: two reconcilers do the same work at the same time, and each piece of it is done once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.collection import AsyncCollection

from forebay.settings import StoreSettings
from forebay.tasks import end
from forebay.testing.polling import until

from .conftest import Rows
from .crash_world import CREW, QUICK_LOOPS, CrashCallers, Sort
from .observer import JOBS
from .own_jobs import in_flight
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


MARKS = "hand_out_marks"
Document = dict[str, Any]


class HandOuts:
    """Counts in the store itself how often a loop made a job queued again."""

    def __init__(self, marks: AsyncCollection[Document]) -> None:
        self.seen = 0
        self._marks = marks
        self._mark = uuid.uuid4().hex
        self._marked = asyncio.Event()

    async def watch(self, stream: AsyncChangeStream[Document]) -> None:
        """Every change of a job that a loop queued: it leaves the mark of its turn."""
        async for event in stream:
            if event["ns"]["coll"] == MARKS:
                self._marked.set()
                return
            fields = event["updateDescription"]["updatedFields"]
            self.seen += fields.get("state") == "queued" and "turn" in fields

    async def all(self) -> int:
        """How many there were; the last look, when there is nothing to do any more."""
        await self._marks.insert_one({"_id": self._mark})
        async with asyncio.timeout(60):
            await self._marked.wait()
        return self.seen


@asynccontextmanager
async def hand_outs(here: Scene) -> AsyncIterator[HandOuts]:
    url = here.stack.servers.mongodb_url
    database = StoreSettings.model_fields["mongodb_database"].default
    only = [
        {"ns.coll": JOBS, "operationType": "update"},
        {"ns.coll": MARKS, "operationType": "insert"},
    ]
    async with (
        AsyncMongoClient[Document](url) as client,
        await client[database].watch([{"$match": {"$or": only}}]) as stream,
    ):
        counting = HandOuts(client[database][MARKS])
        watching = asyncio.create_task(counting.watch(stream), name="hand-outs")
        try:
            yield counting
        finally:
            await end(watching)


@pytest.mark.long_only("a system of its own, and the crash points end its loops at every step")
@pytest.mark.timeout(1800)
async def test_each_lost_lease_is_rescued_once_and_each_due_job_handed_to_one(
    tmp_path: Path, rows: Rows, seed: int, long: bool
) -> None:
    row = rows("F2", "two reconcilers race for lost leases and due jobs")
    times = LONG if long else SHORT
    async with (
        scene(tmp_path, seed=seed, crew=CREW, callers=CrashCallers, **HOT_LOOPS) as here,
        hand_outs(here) as counted,
    ):
        async with here.load(PER_SECOND):
            here.callers.wanted[Sort.LONG] += 1
            for _ in range(times):
                await until(lambda: some_are_called(here))
                here.stack.kill("search_worker")
                await until(lambda: nobody_is_called(here))
        row.injected = here.stack.endings("search_worker").count("SIGKILL")
        audit = await here.settled(within_s=300)
        record(row, here, audit)
        seen = await counted.all()
        # A job is done before the loop that handed it out has noted its message, and said so.
        with contextlib.suppress(TimeoutError):
            await until(lambda: all_is_said(here, seen), 10)
        done = said(here)
        row.figures |= {"handed_out": seen, "done_by_each": [*done.values()]}
        row.duplicates += max(done.total() - seen, 0)
        check(here, audit)
        assert row.injected == times
        assert min(done.values()) > 0, "one of them did nothing: there was no race"
        # More would be a job in the hands of two. Fewer would be one in nobody's: that happens only
        # when the store's answer is lost on the way, and nothing disturbs the store here.
        assert done.total() == seen, f"turns of a loop that failed: {failed(here)}"
        row.survived = row.injected


def said(here: Scene) -> Counter[str]:
    """What each reconciler got to do, by its own words."""
    return Counter({name: rescued(here, name) + handed_out(here, name) for name in RECONCILERS})


async def all_is_said(here: Scene, seen: int) -> bool:
    return said(here).total() == seen


def failed(here: Scene) -> int:
    logs = map(here.stack.log, RECONCILERS)
    return sum(1 for log in logs for _ in log_lines(log, "loop.failed"))


async def some_are_called(here: Scene) -> bool:
    return await in_flight(here, "search") >= 3


async def nobody_is_called(here: Scene) -> bool:
    return await in_flight(here, "search") == 0


def rescued(here: Scene, name: str) -> int:
    """Jobs that this reconciler took back, by its own words."""
    return sum(line.get("queued", 0) for line in log_lines(here.stack.log(name), "rescuer.rescued"))


def handed_out(here: Scene, name: str) -> int:
    """Jobs whose time came that this reconciler got to publish, by its own words."""
    lines = log_lines(here.stack.log(name), "relay.published")
    return sum(line["wanted"] for line in lines if line["reason"] == "due")
