"""I6: every end that somebody asked about is told, whoever dies and however bad the receiver.

F4: workers die between a job's end and its deliveries, between these and the mark, and after the
receiver has heard and before anybody knows. F25: receivers hang, refuse, redirect, leave, drip and
pour; the jobs do not feel it, nor do the other receivers.

The receiver's own log is compared with the store; every POST is verified by the unmodified
`standardwebhooks` library.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from forebay.crashpoints import CrashPoint
from forebay.endpoints import default_endpoint_id
from forebay.jobs import Job, JobState
from forebay.local.environment import Crew
from forebay.local.ports import Ports
from forebay.store import JobQuery
from forebay.testing.polling import until
from forebay.webhooks.delivery import about, endpoint_tag
from loadtest.providers.sink import ELSEWHERE, Heard, Sink

from .conftest import Rows
from .crash_world import QUICK_LOOPS, TOLD, CrashCallers, Crasher, Hits
from .own_jobs import ended, search, submitted
from .scene import Scene, check, record, scene

SHORT, LONG = 1, 30
PER_SECOND = 12
CREW = Crew(copies={"reconciler": 2}, pauses_s=(0.02, 0.02))
TENANT = "default"
BAD = {
    "500": "status=500",
    "hang": "hang",
    "302": "status=302",
    "410": "status=410",
    "drip": "drip",
    "huge": "huge",
    "reset": "drop",
}
"""Each of them a receiver of its own."""
PLACES, WORKERS = 4, 20
"""Of one receiver, and of the webhook worker."""
TIMEOUT_S = 6.0
HANGING = 60
"""Deliveries to the one that hangs: three times what the worker could hold."""
WELL = 100
LATE_S = 5.0
"""From a job's end to its good receiver, at the 95th percentile: less than one that hangs takes,
and behind sixty of them it would be 20 s."""


@dataclass(frozen=True)
class World:
    """The scene, and the receivers."""

    here: Scene
    session: aiohttp.ClientSession
    sinks: dict[str, Sink]
    urls: dict[str, str]
    """Of the sinks, by their names; `well` is the good one."""

    @property
    def heard(self) -> list[Heard]:
        """What the good receiver heard."""
        return self.sinks["well"].heard

    async def deliveries(self, *tags: str) -> list[Job]:
        """All of them, or those with these tags."""
        query = JobQuery(tenant=TENANT, deliveries=True, all_tags=frozenset(tags), limit=100_000)
        return [*await self.here.store.list(query)]

    async def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the API."""
        async with self.session.post(path, json=body) as answer:
            assert answer.status in {200, 201, 202}, await answer.text()
            said: dict[str, Any] = await answer.json()
            return said

    async def secret(self, endpoint: str) -> str:
        """What signs."""
        async with self.session.get(f"/v1/webhook-endpoints/{endpoint}/secret") as answer:
            return str((await answer.json())["secret"])


@pytest.fixture(scope="module")
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    directory, ports = tmp_path_factory.mktemp("webhooks"), Ports()
    listening = {name: ports.take(name) for name in (*BAD, "well")}
    hosts = [f"127.0.0.1:{port}" for port in listening.values()]
    async with AsyncExitStack() as stack:
        sinks = {name: Sink() for name in listening}
        for name, port in listening.items():
            app = web.Application()
            app.add_routes(sinks[name].routes())
            runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", port).start()
        env = {
            **QUICK_LOOPS,
            "FOREBAY_WEBHOOK_ALLOW_HOSTS": ",".join(hosts),
            "FOREBAY_WEBHOOK_LEASE_S": "3",
            "FOREBAY_WEBHOOK_CONCURRENCY": f"{WORKERS}",
            "FOREBAY_WEBHOOK_PER_RECEIVER_CONCURRENCY": f"{PLACES}",
            "FOREBAY_WEBHOOK_TIMEOUT_S": f"{TIMEOUT_S:g}",
            "FOREBAY_RECONCILER_NOTIFIER_EVERY_S": "0.2",
            "FOREBAY_RECONCILER_NOTIFY_AFTER_S": "1",
        }
        seed = request.config.getoption("--seed")
        here = await stack.enter_async_context(
            scene(directory, seed=seed, crew=CREW, callers=CrashCallers, **env)
        )
        session = aiohttp.ClientSession(here.stack.ingress_url)
        await stack.enter_async_context(session)
        urls = {name: f"http://127.0.0.1:{port}/hooks/{name}" for name, port in listening.items()}
        yield World(here, session, sinks, urls)


def verified(heard: Heard, secret: str) -> dict[str, Any]:
    """What was said; raises when the signature is not of this secret."""
    Webhook(secret).verify(heard.body, heard.headers)
    said: dict[str, Any] = json.loads(heard.body)
    return said


@pytest.mark.timeout(3600)
async def test_whoever_dies_every_end_is_told_and_under_one_id(
    world: World, tmp_path: Path, rows: Rows, seed: int, long: bool, request: pytest.FixtureRequest
) -> None:
    here = world.here
    times = request.config.getoption("--count") or (LONG if long else SHORT)
    points = [place.point for column in TOLD for place in column.places]
    kept = {point: rows("F4", f"killed at {point}") for point in points}
    endpoint = await world.post("/v1/webhook-endpoints", {"url": world.urls["well"]})
    crasher = Crasher(here, Hits(tmp_path / "hits"), random.Random(seed), kept)
    async with here.load(PER_SECOND):
        await crasher.run(TOLD, times)
    audit = await here.settled()
    for point, row in kept.items():
        jobs = row.jobs
        record(row, here, audit)
        row.jobs = jobs
        assert crasher.hits.of(point) >= times, point

    ids = {*here.callers.ledger.accepted.values()}
    deliveries = await world.deliveries(endpoint_tag(endpoint["id"]))
    told = Counter(about(one)["job"] for one in deliveries)
    heard = world.heard
    posts = Counter(one.message_id for one in heard)
    lost = [job_id for job_id in ids if told[job_id] == 0]
    lost += [one.id for one in deliveries if posts[one.id] == 0]
    doubled = [job_id for job_id, count in told.items() if count > 1]
    kept[CrashPoint.WEBHOOK_AFTER_POST].figures["heard_again"] = posts.total() - len(posts)
    for row in kept.values():
        row.lost += len(lost)
        row.duplicates += len(doubled)
    assert lost == []
    assert doubled == []
    assert {one.state for one in deliveries} == {JobState.SUCCEEDED}
    assert posts.keys() <= {one.id for one in deliveries}
    # Each death after the POST is a second POST, by whose id a receiver knows the first.
    assert posts.total() - len(posts) >= crasher.hits.of(CrashPoint.WEBHOOK_AFTER_POST)
    about_job = {one.id: about(one)["job"] for one in deliveries}
    for one in heard:
        said = verified(one, endpoint["secret"])
        assert said["data"]["id"] == about_job[one.message_id]
    check(here, audit)
    async with world.session.delete(f"/v1/webhook-endpoints/{endpoint['id']}") as answer:
        assert answer.status == 204
    for row in kept.values():
        row.survived = row.injected


@pytest.mark.timeout(300)
async def test_bad_receivers_harm_neither_the_jobs_nor_the_other_receivers(
    world: World, rows: Rows
) -> None:
    here = world.here
    kept = {name: rows("F25", f"a webhook receiver: {name}") for name in BAD}
    secret = await world.secret("default")

    def hooked(name: str, words: str = "") -> dict[str, Any]:
        return {**search(), "webhook": {"url": f"{world.urls[name]}?simulate={words}"}}

    bad = {name: await submitted(here, hooked(name, words)) for name, words in BAD.items()}
    bad["hang"] += await submitted(here, *(hooked("hang", "hang") for _ in range(HANGING - 1)))

    async def it_hangs() -> bool:
        return len(world.sinks["hang"].heard) >= PLACES

    await until(it_hangs, 60)
    well = await submitted(here, *(hooked("well") for _ in range(WELL)))
    jobs = await ended(here, [*well, *(job_id for some in bad.values() for job_id in some)])
    assert {job.state for job in jobs.values()} == {JobState.SUCCEEDED}

    async def all_heard() -> bool:
        told = {json.loads(one.body)["data"]["id"] for one in world.heard}
        return told >= {*well}

    await until(all_heard, 60)
    late = sorted(lateness_s(world, jobs, well))
    p95 = quantiles(late, n=20)[-1]
    assert p95 < LATE_S, late
    # While four hung, and not after: they had all the time the worker gives them.
    assert len(world.sinks["hang"].heard) < HANGING

    async def each_was_tried() -> bool:
        found = {about(one)["job"]: one for one in await world.deliveries()}
        return all(found[bad[name][0]].history for name in BAD)

    await until(each_was_tried, 60)
    by_job = {about(one)["job"]: one for one in await world.deliveries()}
    for name, row in kept.items():
        delivery = by_job[bad[name][0]]
        first = next(one for one in delivery.history if one.outcome != "snoozed")
        row.injected = len(world.sinks[name].heard)
        row.jobs, row.figures["others_late_s_p95"] = len(bad[name]), round(p95, 3)
        expected = {"500": 500, "302": 302, "410": 410, "drip": 200, "huge": 200}
        assert first.http_status == expected.get(name), name
        heard = world.sinks[name].heard[0]
        assert verified(heard, secret)["data"]["id"] in bad[name]
        assert heard.path != ELSEWHERE
        if name in {"drip", "huge"}:
            assert delivery.state is JobState.SUCCEEDED
        elif name == "410":
            assert delivery.state is JobState.FAILED
        else:
            assert delivery.state in {JobState.RETRYING, JobState.QUEUED, JobState.RUNNING}
        row.survived = row.injected
    assert all(one.path != ELSEWHERE for sink in world.sinks.values() for one in sink.heard)
    await here.store.cancel_deliveries(TENANT, endpoint_tag(default_endpoint_id(TENANT)))
    audit = await here.audit()
    assert {what: [*said] for what, said in audit.broken.items() if said} == {}


def lateness_s(world: World, jobs: dict[str, Job], well: list[str]) -> list[float]:
    """From each job's end to the moment its receiver heard of it: one machine, one clock."""
    heard = {json.loads(one.body)["data"]["id"]: one.at for one in reversed(world.heard)}
    finished = {job_id: jobs[job_id].finished_at for job_id in well}
    return [heard[job_id] - at.timestamp() for job_id, at in finished.items() if at is not None]


async def test_a_receiver_that_is_gone_disables_its_endpoint(world: World, rows: Rows) -> None:
    row = rows("F25", "a webhook endpoint whose receiver answers 410")
    url = f"{world.urls['410']}?simulate=status=410"
    endpoint = await world.post("/v1/webhook-endpoints", {"url": url})
    await world.post(f"/v1/webhook-endpoints/{endpoint['id']}/test")

    async def disabled() -> bool:
        async with world.session.get(f"/v1/webhook-endpoints/{endpoint['id']}") as answer:
            said = await answer.json()
            return (said["disabled"], said["disabled_reason"]) == (True, "gone")

    await until(disabled, 60)
    row.injected = row.survived = 1
