"""F21: a job kills its process, again and again. It fails alone; its neighbors succeed.

Two such jobs at once take more along, since what is lost to one of them counts beside what is lost
to the other. Then both fail, and each neighbor has its end.
"""

from __future__ import annotations

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
from tests.broker_world import RabbitWorld, of_jobs, open_world

from .conftest import Rows
from .poisoned_worker import CONCURRENCY, POISON
from .report import Row

MOST = 3
NEWCOMERS = 10
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

    async def messages(self) -> int:
        """Messages in the queues of jobs, waiting or in the worker's hands."""
        plain = {"disable_stats": "true", "enable_queue_totals": "true"}
        found = await self.world.management.get(f"queues/{self.world.vhost}", params=plain)
        return sum(one.get("messages", 0) for one in of_jobs(found.json()))

    async def idle(self) -> bool:
        """Whether nothing waits, runs, or lies in a queue."""
        return not await self.store.backlog() and await self.messages() == 0

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


@dataclass(frozen=True)
class Ended:
    """What became of everybody."""

    guilty: list[Job]
    neighbors: list[Job]
    """Who was beside them from the first call on."""
    newcomers: list[Job]
    deaths: int

    @property
    def innocent(self) -> list[Job]:
        return [*self.neighbors, *self.newcomers]


@pytest.mark.timeout(2700)
async def test_a_job_that_kills_its_process_fails_and_its_neighbors_succeed(
    scene: Scene, rows: Rows, *, long: bool
) -> None:
    row = rows("F21", f"a job kills its worker, {CONCURRENCY - 1} others beside it")
    for _ in range(10 if long else 1):
        seen = await poisoned(scene, row, 1)
        assert seen.deaths == MOST
        assert {job.state for job in seen.innocent} == {JobState.SUCCEEDED}
        assert max(map(lost_attempts, seen.innocent)) <= 2
        row.survived += seen.deaths
    assert row.injected == scene.deaths()


@pytest.mark.long_only("four minutes, and one such job shows the rule")
@pytest.mark.timeout(1500)
async def test_two_jobs_that_kill_their_process_fail_and_each_neighbor_has_its_end(
    scene: Scene, rows: Rows
) -> None:
    row = rows("F21", f"two jobs kill their worker, {CONCURRENCY - 2} others beside them")
    row.figures["neighbors_failed"] = 0
    for _ in range(3):
        seen = await poisoned(scene, row, 2)
        # Each death takes an attempt from one of them or from both.
        assert MOST <= seen.deaths <= 2 * MOST
        failed = [job for job in seen.innocent if job.state is JobState.FAILED]
        row.figures["neighbors_failed"] += len(failed)
        assert {job.state for job in seen.innocent} <= {JobState.SUCCEEDED, JobState.FAILED}
        for job in failed:
            assert exhausted(job), job.error
        row.survived += seen.deaths
    assert row.injected == scene.deaths()


async def poisoned(scene: Scene, row: Row, poisons: int) -> Ended:
    """Poisonous jobs beside many others, from their first calls to the end of them all."""
    before, beside = scene.deaths(), CONCURRENCY - poisons
    poisonous = (f"{POISON} {n}" for n in range(poisons))
    first = await scene.submit([*poisonous, *(f"dam {n}" for n in range(beside))])
    await until(lambda: died(scene, before + 2), 120)
    later = await scene.submit([f"weir {n}" for n in range(NEWCOMERS)])
    everything = [*first, *later]
    row.jobs += len(everything)

    async def all_ended() -> bool:
        return len(await scene.store.finished(everything)) == len(everything)

    await until(all_ended, 300)
    deaths = scene.deaths() - before
    row.injected += deaths
    jobs = {job.id: job for job in await scene.jobs(everything)}
    row.lost += len(everything) - len(jobs)
    assert row.lost == 0
    found = [jobs[job_id] for job_id in everything]
    together, newcomers = found[: len(first)], found[len(first) :]
    seen = Ended(together[:poisons], together[poisons:], newcomers, deaths)
    row.top("attempts_lost_by_a_neighbor", max(map(lost_attempts, seen.innocent)))
    # The fault was felt: the first time nothing told the poison from the others.
    assert sum(lost_attempts(job) > 0 for job in seen.neighbors) > beside / 2
    letters = await letters_of(scene)
    for guilty in seen.guilty:
        assert exhausted(guilty), guilty.error
        assert (guilty.id, "attempts_exhausted") in letters
    await until(scene.idle, 30)
    return seen


def exhausted(job: Job) -> bool:
    """Whether it failed because its attempts are used up, and is told of as it should be."""
    code = job.error.code if job.error else None
    told = (job.state, job.attempts, job.dead_lettered, code)
    return told == (JobState.FAILED, MOST, True, ErrorCode.ATTEMPTS_EXHAUSTED)


async def died(scene: Scene, times: int) -> bool:
    return scene.deaths() >= times


def lost_attempts(job: Job) -> int:
    return sum(attempt.outcome == "lease_lost" for attempt in job.history)


async def letters_of(scene: Scene) -> list[tuple[str | None, object]]:
    """The dead letters: which job, and why."""
    found = await scene.world.dead(JobKind.SEARCH)
    return [(letter.correlation_id, letter.headers["x-forebay-reason"]) for letter in found]
