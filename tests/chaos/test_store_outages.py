"""I1, I2, I3, I7, I9: MongoDB dies, steps down and stands still, under load.

While it is away every submission is refused within three seconds, with the time to come back; it is
back within fifteen. Settings are the default ones but for LLM jobs, whose leases run out
while the store is away.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from forebay.jobs import CALLER_KINDS
from forebay.local.mongodb import MongoServer
from forebay.store.indexes import JOBS
from forebay.testing.polling import pace, until
from tests.e2e.worker_settings import of_workers

from .conftest import Rows
from .observer import DATABASE
from .own_jobs import calls_of, ended, enter, in_flight, llm, submitted
from .patient_callers import PatientCallers, passed
from .prober import Probe, Prober, probing
from .process_figures import connections_to, is_frozen, memory_mib
from .process_logs import log_lines
from .report import Row
from .scene import Scene, check, record, scene

REFUSED_WITHIN_S = 3.0
BACK_WITHIN_S = 15.0
POOL = 50
MONITORS = 3
"""Connections of the driver's own, beside its pool: it watches the server over them."""
GROWTH_MIB = 64.0
SPARE = 5
"""Tries more: on a busy machine everything may have been taken back before the store died."""
LLM_LEASE_S = 3.0
SETTINGS = {
    **of_workers("SEARCH", "CRAWLER", LEASE_S=30, RETRY_BASE_S=1),
    "FOREBAY_LLM_LEASE_S": f"{LLM_LEASE_S:g}",
}


@dataclass
class Outage:
    """When the store was away, by the machine's monotonic clock."""

    down: float = field(default_factory=time.monotonic)
    away: float = 0.0
    """The first moment at which it was surely away."""
    ending: float = 0.0
    """The latest moment at which it was surely away."""
    up: float = 0.0
    happened: bool = False
    """Whether it was seen to be away."""


@dataclass
class Trial:
    """One scene whose store is broken again and again."""

    here: Scene
    chance: Random
    prober: Prober = field(init=False)
    rounds: int = 0
    judged_jobs: int = 0

    @asynccontextmanager
    async def load(self, per_second: float) -> AsyncIterator[None]:
        """Callers who insist and a prober who does not, meanwhile."""
        self.rounds += 1
        url, directory = self.here.stack.ingress_url, self.here.stack.directory
        name = f"probe{self.rounds}"
        async with probing(url, directory, name=name) as self.prober, self.here.load(per_second):
            yield
        enter(self.here, self.prober.probes())

    @property
    def mongodb(self) -> MongoServer:
        found = self.here.stack.servers.mongodb
        assert found is not None
        return found

    async def kill(self, *, at_once: bool) -> Outage:
        """SIGKILL and start again: at once, or when a caller was refused."""
        outage = Outage()
        await self.mongodb.kill()
        outage.happened, outage.away = self.mongodb.pid is None, time.monotonic()
        if not at_once:
            await self.prober.first(lambda p: p.status == 503 and p.sent > outage.down)
        outage.ending = time.monotonic()
        await self.mongodb.start()
        outage.up = time.monotonic()
        return outage

    async def step_down(self, seconds: int) -> Outage:
        """The only member gives its place up, and takes it again after so many seconds."""
        async with AsyncMongoClient(self.mongodb.url, directConnection=True) as client:
            outage = Outage()

            async def primary() -> bool:
                if (await client.admin.command("hello"))["isWritablePrimary"]:
                    return True
                outage.ending = time.monotonic()
                return False

            order = {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": True}
            await client.admin.command(order)
            outage.happened, outage.away = not await primary(), time.monotonic()
            await until(primary, 60)
            outage.up = time.monotonic()
            return outage

    async def freeze(self, row: Row, seconds: float) -> Outage:
        """SIGSTOP for so long, with calls under way that outlast it."""
        calls = await submitted(self.here, *(llm(latency=seconds + 3) for _ in range(10)))
        await until(self.calls_under_way, 30)
        ingress = self.here.stack.pids("ingress")[0]
        port = int(self.mongodb.url.rpartition(":")[2].partition("/")[0])
        before_mib = memory_mib(ingress)
        outage = Outage()
        self.mongodb.freeze()
        outage.away = time.monotonic()
        try:
            async for _ in pace(5, round(seconds * 5)):
                row.top("ingress_growth_mib_max", memory_mib(ingress) - before_mib)
                row.top("store_connections_max", connections_to(ingress, port))
            outage.happened = is_frozen(self.mongodb.pid)
            outage.ending = time.monotonic()
        finally:
            self.mongodb.thaw()
        outage.up = time.monotonic()
        assert row.figures["ingress_growth_mib_max"] < GROWTH_MIB
        assert row.figures["store_connections_max"] <= POOL + MONITORS
        await self.calls_ended_well(row, calls)
        return outage

    async def kill_in_recovery(self, row: Row) -> None:
        """Worker first, and the store when its leases run out and retries are due."""
        retries = {"status": 503, "retry_after": 2, "times": 1}
        slow = await submitted(self.here, *(llm(latency=4, times=1) for _ in range(30)))
        waiting = await submitted(self.here, *(llm(**retries) for _ in range(30)))
        await until(self.calls_under_way, 30)
        self.here.stack.kill("llm_worker")
        await passed(LLM_LEASE_S + self.chance.uniform(-1.0, 1.0))
        outage = await self.kill(at_once=True)
        await ended(self.here, [*slow, *waiting], 120)
        happened = outage.happened and self.recovering_since(outage.up)
        row.injected, row.void = row.injected + happened, row.void + (not happened)
        row.survived += happened

    def recovering_since(self, moment: float) -> bool:
        """Whether the rescuer or the relay had work left after that moment."""
        at = time.time() - (time.monotonic() - moment)
        log = self.here.stack.log("reconciler")
        return any(
            True
            for event in ("rescuer.rescued", "relay.published")
            for _ in log_lines(log, event, since=at)
        )

    async def calls_under_way(self) -> bool:
        return await in_flight(self.here, "llm") >= 10

    async def calls_ended_well(self, row: Row, ids: list[str]) -> None:
        """Their leases ran out meanwhile: each was cut once at most, and has its result."""
        for job_id, job in (await ended(self.here, ids)).items():
            cut = [call for call in await calls_of(self.here, job_id) if call["client_gone"]]
            row.top("calls_cut_of_a_job_max", len(cut))
            assert job.state == "succeeded", job.error
            assert len(cut) <= 1
            assert job.attempts <= 2

    async def seen(self, row: Row, outage: Outage) -> None:
        """Everybody was refused quickly while it was away, and it is back soon.

        Everybody: who hangs has no line yet, so the last of those who came before is waited for.
        """
        row.injected += outage.happened
        row.void += not outage.happened
        await self.prober.first(lambda p: p.status == 202 and p.answered > outage.up, BACK_WITHIN_S)
        accepted_s = self.accepted_after(outage) - outage.up
        finished_s = await self.finished_after(outage)
        row.top("accepted_again_s_max", accepted_s)
        row.top("finished_again_s_max", finished_s)
        assert max(accepted_s, finished_s) <= BACK_WITHIN_S
        await self.prober.all_sent_before(outage.up)
        during = self.prober.sent_between(outage.down - REFUSED_WITHIN_S, outage.up)
        row.top("refused_within_s_max", max(p.theirs_s for p in during))
        row.top("prober_late_s_max", max(p.ours_s for p in during))
        meanwhile = [p for p in during if outage.away < p.sent and p.answered < outage.ending]
        assert [p for p in meanwhile if p.status == 202] == []
        assert [p for p in during if not answered_well(p)] == []
        row.survived += outage.happened

    def accepted_after(self, outage: Outage) -> float:
        return min(
            p.answered for p in self.prober.probes() if p.status == 202 and p.answered > outage.up
        )

    async def finished_after(self, outage: Outage) -> float:
        """Seconds from the store's return until a job of every kind had its end.

        Of any age: a job that was accepted just now waits behind all that waited before it.
        """
        up = datetime.fromtimestamp(time.time() - (time.monotonic() - outage.up), UTC)
        ends: dict[str, datetime] = {}

        async def every_kind_finished() -> bool:
            with contextlib.suppress(PyMongoError):  # our client finds it again a little later
                ends.update(await self.first_ends(client, up))
            return len(ends) == len(CALLER_KINDS)

        url = self.mongodb.url
        async with AsyncMongoClient(url, directConnection=True, tz_aware=True) as client:
            await until(every_kind_finished, BACK_WITHIN_S)
        return max((at - up).total_seconds() for at in ends.values())

    async def first_ends(
        self, client: AsyncMongoClient[dict[str, Any]], since: datetime
    ) -> dict[str, datetime]:
        """When the first job of each kind had its end after that moment."""
        pipeline = [
            {"$match": {"finished_at": {"$gt": since}}},
            {"$group": {"_id": "$kind", "at": {"$min": "$finished_at"}}},
        ]
        jobs = client[DATABASE][JOBS]
        return {found["_id"]: found["at"] async for found in await jobs.aggregate(pipeline)}

    async def judged(self, row: Row, planned: int) -> None:
        """Everything accepted so far has its end, by every judge; the new jobs are the row's."""
        audit = await self.here.settled()
        record(row, self.here, audit)
        row.jobs -= self.judged_jobs
        self.judged_jobs = audit.accepted
        check(self.here, audit)
        assert row.injected == planned, f"{row.injected} of {planned} happened, void: {row.void}"


def answered_well(probe: Probe) -> bool:
    """Accepted, or refused with the time to come back; either way soon."""
    refused = probe.status == 503 and (probe.retry_after or "").isdigit()
    return (probe.status == 202 or refused) and probe.theirs_s <= REFUSED_WITHIN_S


pytestmark = pytest.mark.alone
"""Callers are promised answers within 3 s, and to be accepted again within 15 s."""


@pytest.fixture(scope="module")
async def on(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Trial]:
    """One scene for all outages: each test leaves it running, with nothing to do."""
    directory, seed = tmp_path_factory.mktemp("store"), request.config.getoption("--seed")
    async with scene(directory, seed=seed, callers=PatientCallers, **SETTINGS) as here:
        yield Trial(here, Random(seed))


@pytest.mark.timeout(1200)
async def test_nothing_is_lost_when_the_store_dies_under_load(
    on: Trial, rows: Rows, long: bool
) -> None:
    row = rows("F10", "MongoDB killed and started again")
    times = 20 if long else 2
    async with on.load(100 if long else 20):
        for n in range(times):
            await on.seen(row, await on.kill(at_once=n % 2 == 0))
    await on.judged(row, times)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_when_the_store_steps_down_under_load(
    on: Trial, rows: Rows, long: bool
) -> None:
    row = rows("F10", "MongoDB steps down")
    lengths = (3, 10, 20) if long else (3,)
    async with on.load(100 if long else 20):
        for seconds in lengths:
            await on.seen(row, await on.step_down(seconds))
    await on.judged(row, len(lengths))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seconds", [5, pytest.param(30, marks=pytest.mark.long_only("a minute; 5 s are enough"))]
)
async def test_a_store_that_stands_still_piles_nothing_up_and_cuts_no_call_twice(
    on: Trial, rows: Rows, long: bool, seconds: int
) -> None:
    row = rows("F11", f"MongoDB frozen for {seconds} s")
    times = 2 if long else 1
    async with on.load(30 if long else 20):
        for _ in range(times):
            await on.seen(row, await on.freeze(row, seconds))
    await on.judged(row, times)


@pytest.mark.timeout(600)
async def test_everything_ends_when_the_store_dies_while_dead_workers_jobs_are_taken_back(
    on: Trial, rows: Rows, long: bool
) -> None:
    row = rows("F12", "MongoDB killed during recovery")
    times = 10 if long else 1
    async with on.load(10):
        for _ in range(times + SPARE):
            if row.injected < times:
                await on.kill_in_recovery(row)
    await on.judged(row, times)
