"""Who waits does not lock the others out of a real process, nor the probe (I7)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from tests.command import forebay
from tests.ingress_process import NOBODY, serving

CONNECTIONS = 20
"""16 of them for callers who wait, and 8 of those for one tenant if nobody else waits."""
FOLLOWERS = 30
SEARCH = {"query": "hydro power forebay"}


async def key_of(tenant: str, role: str, **store: str) -> dict[str, str]:
    words = ("create", "--tenant", tenant, "--name", "a test", "--role", role)
    made = await forebay("keys", *words, **store)
    assert made.code == 0, made.err
    return {"Authorization": f"Bearer {made.out.strip()}"}


async def submit(session: aiohttp.ClientSession, url: str, key: dict[str, str]) -> str:
    async with session.post(f"{url}/v1/search", json=SEARCH, headers=key) as answer:
        assert answer.status == 202
        return f"{url}/v1/jobs/{(await answer.json())['id']}"


async def look(
    session: aiohttp.ClientSession, url: str, key: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    async with session.get(url, headers=key) as answer:
        return answer.status, await answer.json()


async def test_a_crowd_of_followers_leaves_places_for_the_others_and_for_the_probe(
    session: aiohttp.ClientSession, mongodb_url: str, database: str
) -> None:
    store = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database}
    settings = {
        **store,
        "AMQP_URL": NOBODY,
        "INGRESS_AUTHENTICATION": "keys",
        "INGRESS_MAX_CONNECTIONS": str(CONNECTIONS),
    }
    crowd = await key_of("crowd", "user", **store)
    looker = await key_of("crowd", "read-only", **store)
    other = await key_of("other", "user", **store)
    async with (
        serving(session, **settings) as ingress,
        AsyncExitStack() as stack,
        asyncio.timeout(60),
    ):
        job = await submit(session, ingress.url, crowd)
        statuses: Counter[int] = Counter()
        for _ in range(FOLLOWERS):
            following = session.get(f"{job}/events", headers=looker)
            answer = await stack.enter_async_context(following)
            statuses[answer.status] += 1
            if answer.status == 503:
                assert int(answer.headers["Retry-After"]) >= 1
        async with session.get(f"{ingress.url}/livez") as alive:
            assert alive.status == 200
        assert statuses == {200: 8, 503: FOLLOWERS - 8}
        # A wait of theirs is answered at once; another tenant may wait, and follow.
        assert (await look(session, f"{job}?wait=60", looker))[1]["state"] == "queued"
        theirs = await submit(session, ingress.url, other)
        followed = await stack.enter_async_context(session.get(f"{theirs}/events", headers=other))
        assert followed.status == 200
        waiting = asyncio.create_task(look(session, f"{theirs}?wait=60", other))
        async with session.post(f"{theirs}/cancel", headers=other) as canceled:
            assert canceled.status == 200
        assert (await waiting)[1]["state"] == "canceled"
