"""Each process as the first one of a container: starts, is ready, drains on SIGTERM.

The settings are those of compose.yaml, grace periods included; the servers are the tests' own.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from forebay.broker.management import TopologySettings, declare, open_management
from forebay.broker.topology import forebay_topology
from forebay.testing.polling import until
from tests.deploy.compose.resolved import compose
from tests.deploy.compose.rules import AFTER_GRACE_S, KINDS
from tests.deploy.image.containers import Box, Boxes
from tests.ingress_process import NOBODY, free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

CALL_S = 4
"""How long the provider takes for the call that is in flight when the worker is asked to stop."""


@dataclass(slots=True)
class World:
    """Everything around the process under test."""

    boxes: Boxes
    http: aiohttp.ClientSession
    env: Mapping[str, str]
    providers: str
    site: str
    figures: list[str]

    async def start(self, name: str, **extra: str) -> tuple[Box, str]:
        """Start a process; the container, and where its probes are once it is ready."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        ports = {"FOREBAY_PROBE_PORT": str(port), "FOREBAY_INGRESS_PORT": str(port)}
        env = {**self.told(name), **self.env, **ports}
        began = time.monotonic()
        box = await self.boxes.start(["python", "-m", name], {**env, **extra})
        await self.ready(box, f"{url}/readyz")
        self.figures.append(f"{name}: ready after {time.monotonic() - began:.1f} s")
        return box, url

    def told(self, name: str) -> dict[str, str]:
        """What compose.yaml tells a process, with the simulated world where it is here."""
        apis, site = (url.removeprefix("http://") for url in (self.providers, self.site))
        return {
            key: value.replace("providers:9080", apis).replace("providers:9081", site)
            for key, value in settings_of(name).items()
        }

    async def ready(self, box: Box, url: str) -> None:
        """Wait until it answers 200."""

        async def answers() -> bool:
            assert box.running(), box.log
            try:
                async with self.http.get(url) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers, 120)

    async def submit(self, ingress: str, kind: str, body: Mapping[str, Any]) -> str:
        """An accepted job's id."""
        async with self.http.post(f"{ingress}/v1/{kind}", json=body) as answer:
            job = await answer.json()
            assert answer.status == 202, job
        return str(job["id"])

    async def called(self, kind: str) -> None:
        """Wait until a call of this kind is in flight."""

        async def in_flight() -> bool:
            async with self.http.get(f"{self.providers}/_stats") as answer:
                return bool((await answer.json()).get(kind, {}).get("in_flight"))

        await until(in_flight)


def settings_of(process: str) -> dict[str, str]:
    """What compose.yaml tells a process, but for its secrets, which are the tests' own."""
    told: dict[str, str] = dict(compose()["services"][process]["environment"])
    del told["FOREBAY_SECRETS_DIR"]
    return told


@pytest.fixture(scope="module")
async def surroundings(
    management_url: str, amqp_url: str, mongodb_url: str
) -> AsyncIterator[dict[str, str]]:
    """A vhost and a database of our own."""
    name = f"image-{uuid.uuid4().hex[:8]}"
    settings = TopologySettings.model_validate({"rabbitmq_management_url": management_url})
    async with open_management(settings) as management:
        await declare(management, forebay_topology(name), {})
        yield {
            "FOREBAY_AMQP_URL": amqp_url.rstrip("/") + f"/{name}",
            "FOREBAY_MONGODB_URL": mongodb_url,
            "FOREBAY_MONGODB_DATABASE": name,
        }
        await management.delete(f"vhosts/{name}")
    async with AsyncMongoClient[dict[str, Any]](mongodb_url) as client:
        await client.drop_database(name)


@pytest.fixture
async def world(
    boxes: Boxes, surroundings: dict[str, str], figures: list[str]
) -> AsyncIterator[World]:
    apis, site = free_port(), free_port()
    env = {**surroundings, "FOREBAY_PROBE_HOST": "127.0.0.1"}
    ports = (f"--port={apis}", f"--site-port={site}")
    outside = await boxes.start(["python", "-m", "loadtest.providers", "--profile=quiet", *ports])
    urls = f"http://127.0.0.1:{apis}", f"http://127.0.0.1:{site}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        made = World(boxes, http, env, *urls, figures)
        await made.ready(outside, f"{urls[0]}/_stats")
        yield made


def slow(kind: str, site: str) -> dict[str, Any]:
    """A job whose call takes its time."""
    directive = f"latency={CALL_S}"
    match kind:
        case "search":
            return {"query": f"[simulate {directive}]"}
        case "crawl":
            return {"url": f"{site}/pages/1?simulate={directive}"}
        case _:
            message = {"role": "user", "content": f"[simulate {directive}]"}
            return {"model": "small", "messages": [message]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("search_worker", "search"), ("crawler_worker", "crawl"), ("llm_worker", "llm")],
)
async def test_a_worker_ends_its_call_and_then_itself(world: World, name: str, kind: str) -> None:
    _, ingress = await world.start("ingress")
    worker, probes = await world.start(name)
    assert worker.exec("python", "-m", "forebay.healthcheck", f"{probes}/readyz") == (0, "")
    job_id = await world.submit(ingress, kind, slow(kind, world.site))
    await world.called(kind)

    began = time.monotonic()
    await worker.ask_to_stop()
    grace_s = float(settings_of(name)[f"FOREBAY_{KINDS[name]}_GRACE_S"])
    assert await worker.ended(grace_s + AFTER_GRACE_S) == 0
    world.figures.append(
        f"{name}: ended {time.monotonic() - began:.1f} s after SIGTERM, with a call of {CALL_S} s"
    )
    drained = worker.event("process.drained")
    assert (drained["finished"], drained["aborted"]) == (1, 0)
    async with world.http.get(f"{ingress}/v1/jobs/{job_id}") as answer:
        job = await answer.json()
    assert (job["state"], job["attempts"]) == ("succeeded", 1)


async def test_the_ingress_answers_who_waits_and_then_ends(world: World) -> None:
    ingress, url = await world.start("ingress")
    job_id = await world.submit(url, "search", {"query": "nobody works on this"})
    sent = asyncio.Event()
    waiting = asyncio.create_task(_wait(f"{url}/v1/jobs/{job_id}?wait=50", sent))
    await sent.wait()
    # It is being waited for once a request that was sent after it is answered.
    async with world.http.get(f"{url}/livez") as answer:
        assert answer.status == 200
    began = time.monotonic()
    await ingress.ask_to_stop()
    assert await waiting == (200, "queued")
    assert await ingress.ended(30) == 0
    world.figures.append(f"ingress: ended {time.monotonic() - began:.1f} s after SIGTERM")
    assert ingress.events()[-1]["event"] == "process.stopped"


async def _wait(url: str, sent: asyncio.Event) -> tuple[int, str]:
    async def tell(*_: object) -> None:
        sent.set()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(tell)
    async with aiohttp.ClientSession(trace_configs=[trace]) as http, http.get(url) as answer:
        return answer.status, (await answer.json())["state"]


async def test_the_reconciler_ends(world: World) -> None:
    reconciler, _ = await world.start("reconciler")
    began = time.monotonic()
    await reconciler.ask_to_stop()
    assert await reconciler.ended(30) == 0
    world.figures.append(f"reconciler: ended {time.monotonic() - began:.1f} s after SIGTERM")
    assert reconciler.events()[-1]["event"] == "process.stopped"


@pytest.mark.parametrize("name", ["ingress", *KINDS, "reconciler"])
async def test_a_stop_while_it_starts_is_obeyed_by_a_first_process(boxes: Boxes, name: str) -> None:
    """The kernel drops a first process's signals until it handles them, hence the repetition."""
    urls = {"FOREBAY_AMQP_URL": NOBODY, "FOREBAY_MONGODB_URL": "mongodb://127.0.0.1:1/"}
    box = await boxes.start(["python", "-m", name], urls)

    async def ended() -> bool:
        if box.running():
            await _ask(box)
        return not box.running()

    await until(ended, 60)
    assert await box.ended(5) == 0
    assert box.log == ""


async def _ask(box: Box) -> None:
    from docker.errors import APIError  # noqa: PLC0415 - optional

    try:
        await box.ask_to_stop()
    except APIError:
        assert not box.running()
