"""How many bytes of bodies are held at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from forebay.keys import ApiKey, Role, digest_of
from ingress.bodies import Bodies, give_back
from ingress.gate import Caller
from ingress.problems import RequestRefused
from tests.ingress_by_hand import JSON, SEARCH, World, ingress

LARGEST = 4096
KEY = ApiKey(
    id="key_1",
    tenant="a",
    name="one",
    role=Role.USER,
    digest=digest_of("secret"),
    created_at=datetime(2026, 11, 22, tzinfo=UTC),
)
BATCH = {"jobs": [{"kind": "search", "input": SEARCH}]}


class SlowBody:
    """A body of which the last byte is long in coming."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.sent, self.go_on = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"query":"dam"' + b" " * (self._size - 15)
        self.sent.set()
        await self.go_on.wait()
        yield b"}"


def begin(world: World, path: str, body: SlowBody) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(world.client.post(path, content=aiter(body), headers=JSON))


async def search(world: World, size: int) -> httpx.Response:
    content = json.dumps(SEARCH).encode().ljust(size)
    return await world.client.post("/v1/search", content=content, headers=JSON)


async def test_bodies_that_do_not_end_are_counted_and_given_back() -> None:
    async with ingress(max_body_bytes=LARGEST, max_held_bytes=LARGEST) as world:
        slow = SlowBody(LARGEST)
        first = begin(world, "/v1/search", slow)
        await slow.sent.wait()
        refused = await search(world, 100)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        slow.go_on.set()
        assert (await first).status_code == 202
        assert (await search(world, LARGEST)).status_code == 202


async def test_who_leaves_in_the_middle_of_a_body_gives_its_room_back() -> None:
    async with ingress(max_body_bytes=LARGEST, max_held_bytes=LARGEST) as world:
        slow = SlowBody(LARGEST)
        first = begin(world, "/v1/search", slow)
        await slow.sent.wait()
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        assert (await search(world, LARGEST)).status_code == 202


async def test_what_is_refused_is_held_no_longer() -> None:
    async with ingress(max_body_bytes=LARGEST, max_held_bytes=LARGEST) as world:
        for size, status in ((LARGEST + 1, 413), (LARGEST, 202), (LARGEST, 202)):
            assert (await search(world, size)).status_code == status


async def test_slow_bodies_of_batches_take_no_place_from_others() -> None:
    async with ingress(max_batches=1, max_body_bytes=LARGEST) as world:
        slow = SlowBody(100)
        first = begin(world, "/v1/batches", slow)
        await slow.sent.wait()
        answer = await world.client.post("/v1/batches", json=BATCH)
        assert answer.status_code == 202
        slow.go_on.set()
        assert (await first).status_code == 422


async def test_batches_do_not_take_the_room_of_single_jobs() -> None:
    held: dict[str, Any] = {"max_batch_bytes": LARGEST, "max_held_batch_bytes": LARGEST}
    async with ingress(max_body_bytes=LARGEST, **held) as world:
        slow = SlowBody(LARGEST)
        first = begin(world, "/v1/batches", slow)
        await slow.sent.wait()
        assert (await world.client.post("/v1/batches", json=BATCH)).status_code == 503
        assert (await search(world, LARGEST)).status_code == 202
        slow.go_on.set()
        await first


async def test_a_dry_run_asks_for_no_place() -> None:
    async with ingress(max_batches=1) as world:
        world.store.free.clear()
        first = asyncio.create_task(world.client.post("/v1/batches", json=BATCH))
        await world.store.inserting.wait()
        asked = {"state": ["failed"]}
        dry = await world.client.post("/v1/jobs/replay", json={**asked, "dry_run": True})
        assert dry.status_code == 200
        assert (await world.client.post("/v1/jobs/replay", json=asked)).status_code == 503
        world.store.free.set()
        assert (await first).status_code == 202


def of(tenant: str, key: ApiKey | None = KEY) -> Request:
    return Request({"type": "http", "state": {"caller": Caller(tenant, key)}})


def test_one_tenant_has_half_of_the_room_and_the_others_the_rest() -> None:
    bodies = Bodies(largest=50, within_s=1, most=100)
    first, second, other = of("a"), of("a"), of("b")
    bodies.hold(first, 30)
    bodies.hold(second, 20)
    with pytest.raises(RequestRefused):
        bodies.hold(second, 1)
    bodies.hold(other, 50)
    with pytest.raises(RequestRefused):
        bodies.hold(of("c"), 1)
    give_back(first)
    bodies.hold(second, 30)
    give_back(second)
    give_back(second)
    bodies.hold(of("c"), 50)


def test_without_keys_the_one_tenant_has_it_all() -> None:
    bodies = Bodies(largest=50, within_s=1, most=100)
    bodies.hold(of("default", None), 100)
    with pytest.raises(RequestRefused):
        bodies.hold(of("default", None), 1)
