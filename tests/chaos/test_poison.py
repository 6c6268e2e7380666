"""F21: a job kills its process, again and again. It fails alone; its neighbors succeed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uuid_utils
from pydantic import SecretStr

from forebay.errors import ErrorCode
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.local.environment import ROOT, base_environment
from forebay.local.ports import HOST, Ports
from forebay.local.processes import ProcessSpec, Supervisor
from forebay.local.servers import Servers
from forebay.settings import StoreSettings
from forebay.store.mongo import MongoJobStore, open_store
from forebay.testing.polling import until
from tests.broker_world import RabbitWorld, open_world

from .conftest import Rows
from .poisoned_worker import CONCURRENCY, POISON
from .report import Row

MOST = 3
NEIGHBORS, NEWCOMERS = CONCURRENCY - 1, 10
WORKER = "search_worker"
QUICK = {
    "FOREBAY_RECONCILER_PUBLISH_AFTER_S": "0.2",
    "FOREBAY_RECONCILER_RELAY_EVERY_S": "0.2",
    "FOREBAY_RECONCILER_RESCUER_EVERY_S": "0.2",
}


@dataclass
class Scene:
    """A worker that can be poisoned, the reconciler, and what they share."""

    store: MongoJobStore
    world: RabbitWorld
    supervisor: Supervisor

    async def submit(self, queries: list[str]) -> list[str]:
        """Put jobs into the store; the relay publishes them."""
        jobs = [a_search(query) for query in queries]
        await self.store.insert(jobs)
        return [job.id for job in jobs]

    async def jobs(self, ids: list[str]) -> list[Job]:
        return [*await self.store.look_up(ids)]

    def deaths(self) -> int:
        return [*self.supervisor.endings(WORKER)].count("SIGKILL")


def a_search(query: str) -> Job:
    at = datetime.now(UTC)
    return Job(
        id=f"job_{uuid_utils.uuid7().hex}",
        tenant="default",
        kind=JobKind.SEARCH,
        lane=Lane.DEFAULT,
        state=JobState.QUEUED,
        input=json.dumps({"query": query}),
        created_at=at,
        queued_at=at,
        max_attempts=MOST,
    )


@pytest.fixture
async def scene(servers: Servers, tmp_path: Path) -> AsyncIterator[Scene]:
    database = f"poison_{uuid_utils.uuid4().hex[:8]}"
    settings = StoreSettings(mongodb_url=SecretStr(servers.mongodb_url), mongodb_database=database)
    ports = Ports(lambda _: None)
    async with (
        open_world(servers) as world,
        open_store(settings) as store,
        Supervisor(tmp_path, ROOT, speak=lambda _: None) as supervisor,
    ):
        await store.prepare()
        told = {"FOREBAY_MONGODB_URL": servers.mongodb_url, "FOREBAY_MONGODB_DATABASE": database}
        await supervisor.start(
            process(WORKER, "tests.chaos.poisoned_worker", world, "worker", ports, told),
            process("reconciler", "reconciler", world, "reconciler", ports, {**told, **QUICK}),
        )
        yield Scene(store, world, supervisor)


def process(
    name: str, module: str, world: RabbitWorld, role: str, ports: Ports, told: Mapping[str, str]
) -> ProcessSpec:
    port = ports.take(f"the {name}")
    env = {
        **base_environment(),
        **told,
        "FOREBAY_AMQP_URL": world.settings(role).amqp_url.get_secret_value(),
        "FOREBAY_PROBE_PORT": str(port),
    }
    command = (sys.executable, "-m", module)
    return ProcessSpec(name, command, env, ready_url=f"http://{HOST}:{port}/readyz")


@pytest.mark.timeout(1500)
async def test_a_job_that_kills_its_process_fails_and_its_neighbors_succeed(
    scene: Scene, rows: Rows, *, long: bool
) -> None:
    row = rows("F21", f"a job kills its worker, {NEIGHBORS} others beside it")
    for _ in range(10 if long else 1):
        await poison_once(scene, row)
    assert row.injected == scene.deaths()


async def poison_once(scene: Scene, row: Row) -> None:
    """One poisonous job beside many others, from its first call to the end of them all."""
    before = scene.deaths()
    poison, *neighbors = await scene.submit([POISON, *(f"dam {n}" for n in range(NEIGHBORS))])
    await until(lambda: died(scene, before + 2), 120)
    newcomers = await scene.submit([f"weir {n}" for n in range(NEWCOMERS)])
    everything = [poison, *neighbors, *newcomers]
    row.jobs += len(everything)

    async def all_ended() -> bool:
        return len(await scene.store.finished(everything)) == len(everything)

    await until(all_ended, 120)
    deaths = scene.deaths() - before
    row.injected += deaths
    jobs = {job.id: job for job in await scene.jobs(everything)}
    row.lost += len(everything) - len(jobs)
    guilty = jobs.pop(poison)
    lost = {job.id: lost_attempts(job) for job in jobs.values()}
    row.top("attempts_lost_by_a_neighbor", max(lost.values()))

    assert deaths == MOST
    # The fault was felt: the first time nothing told the poison from the others.
    assert sum(lost[neighbor] > 0 for neighbor in neighbors) > NEIGHBORS / 2
    assert (guilty.state, guilty.attempts, guilty.dead_lettered) == (JobState.FAILED, MOST, True)
    assert guilty.error is not None
    assert guilty.error.code is ErrorCode.ATTEMPTS_EXHAUSTED
    assert {job.state for job in jobs.values()} == {JobState.SUCCEEDED}
    assert max(lost.values()) <= 2
    assert (poison, "attempts_exhausted") in await letters(scene)
    row.survived += deaths


async def died(scene: Scene, times: int) -> bool:
    await asyncio.sleep(0)
    return scene.deaths() >= times


def lost_attempts(job: Job) -> int:
    return sum(attempt.outcome == "lease_lost" for attempt in job.history)


async def letters(scene: Scene) -> list[tuple[str | None, object]]:
    """The dead letters: which job, and why."""
    found = await scene.world.dead(JobKind.SEARCH)
    return [(letter.correlation_id, letter.headers["x-forebay-reason"]) for letter in found]
