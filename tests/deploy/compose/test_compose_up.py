"""The whole system of compose.yaml, from the local images."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from forebay.testing.polling import until
from tests.deploy.compose.resolved import COMPOSE, ROOT, clean_environment, compose
from tests.deploy.image.containers import IMAGE, LOAD_IMAGE, daemon, need_image
from tests.ingress_process import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

HEALTHY_WITHIN_S = 120
# The images are chosen by the same names as compose.yaml has; anything else is its default.
CHOSEN = ("FOREBAY_IMAGE", "FOREBAY_LOAD_IMAGE")
BODIES: dict[str, dict[str, Any]] = {
    "search": {"query": "hydro power"},
    "crawl": {"url": "http://providers:9081/pages/1"},
    "llm": {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]},
}


@dataclass(slots=True)
class Project:
    """One project of Compose, apart from all others by its name."""

    name: str
    port: int
    broker_port: int
    """RabbitMQ's page; the usual port may be another broker's."""

    @property
    def url(self) -> str:
        """The ingress."""
        return f"http://127.0.0.1:{self.port}"

    async def say(self, *words: str) -> str:
        """Run `docker compose` with these words: what it said; fails the test when it fails."""
        chosen = {name: os.environ[name] for name in CHOSEN if os.environ.get(name)}
        ports = {"FOREBAY_PORT": self.port, "FOREBAY_RABBITMQ_PORT": self.broker_port}
        chosen |= {name: str(port) for name, port in ports.items()}
        process = await asyncio.create_subprocess_exec(
            *(str(COMPOSE), "--project-name", self.name, "--profile", "load", *words),
            cwd=ROOT,
            env=clean_environment(**chosen),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return said.decode()

    async def up(self, *words: str) -> float:
        """Everything healthy; how many seconds that took."""
        began = time.monotonic()
        names = [name for name, one in compose()["services"].items() if not one.get("profiles")]
        await self.say("up", "--detach", "--wait", *words, *names)
        return time.monotonic() - began

    async def states(self) -> dict[str, list[str]]:
        """By service: the health of each of its containers, or its exit code."""
        found: dict[str, list[str]] = {}
        for line in (await self.say("ps", "--all", "--format", "json")).splitlines():
            one = json.loads(line)
            found.setdefault(one["Service"], []).append(one["Health"] or f"exit {one['ExitCode']}")
        return found

    async def done(self, kind: str) -> dict[str, Any]:
        """A new job of a kind, when it is done."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as http:
            async with http.post(f"/v1/{kind}", json=BODIES[kind]) as answer:
                job = await answer.json()
                assert answer.status == 202, job
            async with http.get(f"/v1/jobs/{job['id']}?wait=50") as answer:
                found: dict[str, Any] = await answer.json()
        return found


def _images() -> set[str]:
    """The images that these tests start."""
    images = {
        one["image"]
        for one in compose()["services"].values()
        if "observability" not in one.get("profiles", ())
    }
    return {one for one in images if not one.startswith("forebay")} | {IMAGE, LOAD_IMAGE}


@pytest.fixture(scope="module")
async def project(request: pytest.FixtureRequest) -> AsyncIterator[Project]:
    with daemon() as client:
        for image in _images():
            need_image(client, image)
    opened = Project(f"forebay-test-{uuid.uuid4().hex[:8]}", free_port(), free_port())
    try:
        yield opened
    finally:
        if request.session.testsfailed:
            print(await opened.say("logs", "--tail", "40"))  # noqa: T201 - for whoever looks
        await opened.say("down", "--volumes", "--timeout", "10")


@pytest.fixture(scope="module")
async def up(project: Project, figures: list[str]) -> Project:
    took = await project.up()
    figures.append(f"compose: healthy after {took:.0f} s")
    assert took < HEALTHY_WITHIN_S
    return project


async def test_everything_that_stays_is_healthy_and_every_step_succeeded(up: Project) -> None:
    once = {"secrets", "mongodb-initiate", "indexes", "topology"}
    states = await up.states()
    assert {name: states.pop(name) for name in once} == {name: ["exit 0"] for name in once}
    assert len(states) == 9

    async def healthy() -> bool:
        found = await up.states()
        return {one for name in states for one in found[name]} == {"healthy"}

    # Not at one glance: on a starved machine a check may come late, and the next one mends it.
    await until(healthy, 60)


@pytest.mark.parametrize("kind", BODIES)
async def test_a_job_of_each_kind_succeeds(up: Project, kind: str) -> None:
    job = await up.done(kind)
    assert (job["state"], job["error"]) == ("succeeded", None)


async def test_the_end_of_a_job_is_told_to_its_receiver(up: Project) -> None:
    told = {"url": "http://providers:9080/hooks/me?simulate=status=503%20times=1"}
    body = {"kind": "search", "input": BODIES["search"], "webhook": told}
    async with aiohttp.ClientSession(up.url) as http:
        async with http.post("/v1/jobs", json=body) as answer:
            job = await answer.json()
            assert answer.status == 202, job

        async def taken() -> bool:
            async with http.get("/v1/webhook-deliveries", params={"job_id": job["id"]}) as answer:
                found = (await answer.json())["data"]
            return [(one["state"], one["attempts"]) for one in found] == [("succeeded", 2)]

        await until(taken, 60)


async def test_a_worker_can_be_scaled(up: Project) -> None:
    await up.up("--scale", "llm_worker=2")
    assert (await up.states())["llm_worker"] == ["healthy", "healthy"]


async def test_nobody_sees_the_secrets_of_another_role(up: Project) -> None:
    seen = await up.say("exec", "search_worker", "ls", "/run/secrets/forebay", "/run/secrets")
    assert set(seen.split()) - {"/run/secrets/forebay:", "/run/secrets:"} == {
        "forebay",
        "forebay_amqp_url",
        "forebay_mongodb_url",
    }
    url = await up.say("exec", "search_worker", "cat", "/run/secrets/forebay/forebay_amqp_url")
    assert url.startswith("amqp://forebay-worker:")


async def test_callers_of_the_load_profile_find_it(up: Project) -> None:
    said = await up.say(
        *("run", "--rm", "--no-deps", "load"),
        *("--users", "3", "--spawn-rate", "3", "--run-time", "5s", "--stop-timeout", "30"),
        *("--json", "--loglevel", "WARNING"),
    )
    rows = json.loads(said[said.index("[") :])
    assert {row["name"] for row in rows} >= {"accept search", "accept crawl", "accept llm"}
    assert sum(row["num_failures"] for row in rows) == 0


async def test_jobs_and_passwords_outlive_the_containers(up: Project) -> None:
    job = await up.done("search")
    await up.say("down", "--timeout", "10")
    await up.up()
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{up.url}/v1/jobs/{job['id']}") as answer,
    ):
        assert (answer.status, (await answer.json())["state"]) == (200, "succeeded")
    assert (await up.done("search"))["state"] == "succeeded"
