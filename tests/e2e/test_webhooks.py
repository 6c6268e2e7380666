"""Webhooks through real processes: a receiver that is down and comes back, and one that is well.

The receiver checks every delivery with the unmodified `standardwebhooks` library.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from forebay.local.ports import Ports
from forebay.local.stack import Stack
from forebay.testing.polling import until
from loadtest.providers.sink import Heard, Sink

WITHIN_S = 90.0


@asynccontextmanager
async def up(sink: Sink, port: int) -> AsyncIterator[None]:
    """The receiver listens meanwhile."""
    app = web.Application()
    app.add_routes(sink.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def deliveries(session: aiohttp.ClientSession, **query: str) -> list[dict[str, Any]]:
    async with session.get("/v1/webhook-deliveries", params=query) as answer:
        assert answer.status == 200
        found: list[dict[str, Any]] = (await answer.json())["data"]
        return found


async def secret_of(session: aiohttp.ClientSession, endpoint: str) -> str:
    async with session.get(f"/v1/webhook-endpoints/{endpoint}/secret") as answer:
        return str((await answer.json())["secret"])


def verified(heard: Heard, secret: str) -> dict[str, Any]:
    said: dict[str, Any] = Webhook(secret).verify(heard.body, heard.headers)
    assert said == json.loads(heard.body)
    return said


async def submitted(session: aiohttp.ClientSession, url: str) -> str:
    """A job that names a webhook of its own."""
    job = {
        "kind": "search",
        "input": {"query": "hydro"},
        "webhook": {"url": f"{url}/own", "events": ["job.succeeded"]},
        "metadata": {"order": "4711"},
    }
    async with session.post("/v1/jobs", json=job) as answer:
        assert answer.status == 202
        return str((await answer.json())["id"])


async def told(session: aiohttp.ClientSession, sink: Sink, job_id: str) -> dict[str, str]:
    """What both receivers heard is theirs, signed, and under the id of all attempts; the ids."""
    found = {one["endpoint_id"]: one for one in await deliveries(session, job_id=job_id)}
    for name, one in found.items():
        path = "/hooks/own" if name == "default" else "/hooks/shop"
        posts = [post for post in sink.heard if post.path == path]
        assert len(posts) == 1, (posts, one)
        said = verified(posts[0], await secret_of(session, name))
        assert said["type"] == "job.succeeded"
        assert (said["data"]["id"], said["data"]["metadata"]) == (job_id, {"order": "4711"})
        assert posts[0].message_id == one["id"]
        assert [attempt["n"] for attempt in one["history"]] == [1, 2]
    return {name: one["id"] for name, one in found.items()}


@pytest.mark.e2e
@pytest.mark.timeout(240)
async def test_a_receiver_that_was_down_hears_of_the_end_and_can_verify_it(
    tmp_path: Path, figures: list[str]
) -> None:
    port = Ports().take("the receiver")
    sink, url = Sink(), f"http://127.0.0.1:{port}/hooks"
    env = {"FOREBAY_WEBHOOK_ALLOW_HOSTS": f"127.0.0.1:{port}"}
    async with (
        Stack(tmp_path, env=env) as stack,
        aiohttp.ClientSession(stack.ingress_url) as session,
    ):
        async with session.post("/v1/webhook-endpoints", json={"url": f"{url}/shop"}) as answer:
            assert answer.status == 201
        job_id = await submitted(session, url)

        async def both_failed_once() -> bool:
            found = await deliveries(session, job_id=job_id)
            return [len(one["history"]) for one in found] == [1, 1]

        await until(both_failed_once, WITHIN_S)
        failed = await deliveries(session, job_id=job_id)
        assert {one["state"] for one in failed} <= {"retrying", "queued", "running"}
        assert {one["history"][0]["http_status"] for one in failed} == {None}

        async with up(sink, port):

            async def both_are_told() -> bool:
                return len(await deliveries(session, job_id=job_id, state="succeeded")) == 2

            await until(both_are_told, WITHIN_S)
            ids = await told(session, sink, job_id)
            async with session.get("/v1/jobs") as answer:
                assert [one["id"] for one in (await answer.json())["data"]] == [job_id]
            await sent_again(session, sink, ids["default"])
    figures.append(f"webhooks: {len(sink.heard)} deliveries verified, 2 under one id by hand")


async def sent_again(session: aiohttp.ClientSession, sink: Sink, own: str) -> None:
    """By hand: the same event under the same id, so that a receiver can tell."""
    async with session.post(f"/v1/webhook-deliveries/{own}/redeliver") as answer:
        assert answer.status == 202

    async def heard_again() -> bool:
        return len([one for one in sink.heard if one.message_id == own]) == 2

    await until(heard_again, WITHIN_S)
    first, again = (one for one in sink.heard if one.message_id == own)
    assert first.body == again.body
    verified(again, await secret_of(session, "default"))
