from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from forebay.http import Resolver, build_client
from tests.unit.http.web import Site


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends every wait of the test's threads."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_name_is_found_while_the_loops_own_threads_are_taken(
    site: Site, release: threading.Event
) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    site.serve("/", hello)
    loop = asyncio.get_running_loop()
    # As many as the loop's own executor has threads.
    taken = [
        loop.run_in_executor(None, release.wait) for _ in range(min(32, (os.cpu_count() or 1) + 4))
    ]
    async with build_client(concurrency=1, timeout_s=2) as client, asyncio.timeout(5):
        assert (await client.get(f"http://localhost:{site.port}/")).text == "hello"
    release.set()
    await asyncio.gather(*taken)


async def test_slow_names_take_no_more_threads_than_given_and_end_in_time(
    release: threading.Event,
) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        release.wait()
        return []

    resolver = Resolver(threads=2, time_limit_s=0.05, look_up=look_up)
    async with asyncio.timeout(5):
        found = await asyncio.gather(
            *(resolver.resolve(f"{n}.example.com") for n in range(5)), return_exceptions=True
        )
    assert [type(error) for error in found] == [TimeoutError] * 5
    assert len(asked) == 2
    await resolver.close()


async def test_the_systems_answers_are_given_with_their_zone() -> None:
    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "example.com"
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", port, 0, 2)),
        ]

    resolver = Resolver(look_up=look_up)
    found = await resolver.resolve("example.com", 80)
    assert [(a["host"], a["port"], a["family"]) for a in found] == [
        ("192.0.2.1", 80, socket.AF_INET),
        ("fe80::1%2", 80, socket.AF_INET6),
    ]
    await resolver.close()


@pytest.mark.parametrize("host", ["a..example.com", "x" * 64 + ".example.com"])
async def test_what_can_be_no_name_has_no_address(host: str) -> None:
    resolver = Resolver()
    with pytest.raises(OSError, match="not a name"):
        await resolver.resolve(host)
    await resolver.close()


async def test_it_is_closed_with_its_client() -> None:
    resolver = Resolver()
    async with build_client(concurrency=1, timeout_s=1, resolver=resolver):
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        await resolver.resolve("example.com")
