"""API keys with two real processes on one store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiohttp
import pytest

from forebay.local.mongodb import MongoServer
from forebay.testing.polling import until
from tests.command import forebay
from tests.ingress_process import NOBODY, IngressProcess, serving

MAX_AGE_S = 4.0
"""Of a key that is not read again; 45 by default."""
SEARCH = {"query": "hydro power forebay"}


@dataclass(frozen=True)
class Two:
    """Two replicas, and an admin."""

    session: aiohttp.ClientSession
    replicas: tuple[IngressProcess, IngressProcess]
    admin: dict[str, str]

    @classmethod
    async def begin(
        cls,
        session: aiohttp.ClientSession,
        one: IngressProcess,
        other: IngressProcess,
        **store: str,
    ) -> Two:
        words = ("create", "--tenant", "acme", "--name", "ops", "--role", "admin")
        made = await forebay("keys", *words, **store)
        assert made.code == 0, made.err
        return cls(session, (one, other), {"Authorization": f"Bearer {made.out.strip()}"})

    async def key(self, **quota: int) -> tuple[str, dict[str, str]]:
        body = {"name": "a test", "quota": quota}
        url = f"{self.replicas[0].url}/v1/keys"
        async with self.session.post(url, json=body, headers=self.admin) as answer:
            key = await answer.json()
        return key["id"], {"Authorization": f"Bearer {key['secret']}"}

    async def status(self, replica: int, headers: dict[str, str], method: str = "GET") -> int:
        url = f"{self.replicas[replica].url}/v1/{'search' if method == 'POST' else 'jobs'}"
        body = SEARCH if method == "POST" else None
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            await answer.read()
            return answer.status


@pytest.fixture(scope="session")
async def two(mongodb_url: str, database: str) -> AsyncIterator[Two]:
    store = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database}
    settings = {
        **store,
        "AMQP_URL": NOBODY,
        "INGRESS_AUTHENTICATION": "keys",
        "INGRESS_KEY_MAX_AGE_S": str(MAX_AGE_S),
    }
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        serving(session, **settings) as one,
        serving(session, **settings) as other,
    ):
        yield await Two.begin(session, one, other, **store)


async def test_a_key_revoked_at_one_replica_is_refused_at_every_one_in_time(
    two: Two, figures: list[str]
) -> None:
    key_id, user = await two.key()
    assert [await two.status(replica, user) for replica in (0, 1)] == [200, 200]
    url = f"{two.replicas[0].url}/v1/keys/{key_id}"
    async with two.session.delete(url, headers=two.admin) as answer:
        assert answer.status == 204
    began = monotonic()
    assert await two.status(0, user) == 401

    async def is_refused() -> bool:
        return await two.status(1, user) == 401

    await until(is_refused)
    took = monotonic() - began
    figures.append(f"A revoked key was refused by the other replica after {took:.1f} s of 4.")
    assert took < MAX_AGE_S + 5
    assert [await two.status(replica, two.admin) for replica in (0, 1)] == [200, 200]


async def test_the_quota_of_requests_holds_over_both_replicas_together(two: Two) -> None:
    _, user = await two.key(requests=200, window_s=86_400)
    for _ in range(3):
        assert await two.status(0, user) == 200
    statuses = await asyncio.gather(*(two.status(n % 2, user) for n in range(400)))
    rest = [await two.status(n % 2, user) for n in range(20)]
    assert Counter(statuses) + Counter(rest) == Counter({200: 197, 429: 223})


async def test_open_jobs_are_bounded_over_both_replicas(two: Two) -> None:
    _, user = await two.key(open_jobs=30)
    statuses: list[int] = []
    for _ in range(4):
        statuses += await asyncio.gather(*(two.status(n % 2, user, "POST") for n in range(30)))
    accepted = statuses.count(202)
    # Each replica keeps to it by itself; together they may pass it by what came in half a second.
    assert 30 <= accepted <= 60
    assert set(statuses) == {202, 429}
    assert await two.status(0, user, "POST") == 429


async def test_verbs_that_use_the_api_send_the_key_they_are_given(two: Two) -> None:
    url = two.replicas[0].url
    key = two.admin["Authorization"].removeprefix("Bearer ")
    for settings, code in (({"API_KEY": key}, 0), ({}, 1), ({"API_KEY": "fb_wrong"}, 1)):
        ended = await forebay("dead", "list", URL=url, **settings)
        assert ended.code == code, ended.err
        assert key not in ended.out + ended.err
        assert code == 0 or "401" in ended.err or "API key" in ended.err


async def test_while_the_store_stands_still_nobody_is_told_that_a_key_is_wrong(
    own_mongodb: MongoServer, session: aiohttp.ClientSession
) -> None:
    store = {"MONGODB_URL": own_mongodb.url, "MONGODB_DATABASE": "keys"}
    settings = {**store, "AMQP_URL": NOBODY, "INGRESS_AUTHENTICATION": "keys"}
    async with serving(session, **settings) as ingress:
        two = await Two.begin(session, ingress, ingress, **store)
        (_, known), (_, unknown) = await two.key(), await two.key()
        assert await two.status(0, known, "POST") == 202
        own_mongodb.freeze()
        try:
            began = monotonic()
            tried: Any = (known, unknown)
            asked = (two.status(0, one, "POST") for one in (*tried, *tried))
            statuses = await asyncio.gather(*asked)
            took = monotonic() - began
        finally:
            own_mongodb.thaw()
        assert set(statuses) == {503}
        assert took < 3.5

        async def is_accepted() -> bool:
            return await two.status(0, unknown, "POST") == 202

        await until(is_accepted)
