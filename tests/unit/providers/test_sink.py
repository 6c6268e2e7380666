from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from loadtest.providers.world import Providers

ID = {"webhook-id": "msg_1"}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as opened:
        yield opened


async def test_it_keeps_what_it_hears(session: aiohttp.ClientSession) -> None:
    async with Providers() as world:
        url = f"{world.providers_url}/hooks/shop"
        async with session.post(url, data=b'{"a":1}', headers=ID) as answer:
            assert answer.status == 200
        async with session.get(f"{world.providers_url}/_hooks?path=/hooks/shop") as answer:
            (heard,) = (await answer.json())["heard"]
        async with session.get(f"{world.providers_url}/_hooks?path=/hooks/else") as answer:
            assert (await answer.json())["heard"] == []
    assert (heard["message_id"], heard["status"]) == ("msg_1", 200)
    assert json.loads(heard["body"]) == {"a": 1}
    assert heard["headers"]["webhook-id"] == "msg_1"


async def test_it_misbehaves_as_often_as_it_is_asked(session: aiohttp.ClientSession) -> None:
    async with Providers() as world:
        url = f"{world.providers_url}/hooks/shop?simulate=status=503,retry_after=7,times=2"
        statuses = []
        for _ in range(3):
            async with session.post(url, headers=ID) as answer:
                statuses.append((answer.status, answer.headers.get("Retry-After")))
        async with session.post(url, headers={"webhook-id": "msg_2"}) as answer:
            assert answer.status == 503
    assert statuses == [(503, "7"), (503, "7"), (200, None)]


async def test_a_redirect_and_a_hanging_answer(session: aiohttp.ClientSession) -> None:
    async with Providers() as world:
        url = f"{world.providers_url}/hooks/shop?simulate="
        async with session.post(f"{url}status=307", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (307, "/hooks/elsewhere")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), session.post(f"{url}hang"):
                pass
        assert [one.status for one in world.sink.heard] == [307, None]
        async with session.post(f"{url}sing") as answer:
            assert answer.status == 400
