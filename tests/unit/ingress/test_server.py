"""The application under its real server, on the loopback, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from forebay.errors import ConfigurationError
from forebay.process import StopSignals
from ingress.server import build_server, listen
from ingress.settings import IngressSettings
from tests.ingress_by_hand import SEARCH, World, until


@asynccontextmanager
async def served(world: World, signals: StopSignals, grace_s: float) -> AsyncIterator[str]:
    settings = IngressSettings(port=0, grace_s=grace_s)
    with listen(settings) as listener:
        server = build_server(world.app, settings, signals, world.services.waiting.release)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        host, port = listener.getsockname()
        await until(lambda: server.started)
        try:
            yield f"http://{host}:{port}"
        finally:
            signals.ask()
            await serving


async def post(session: aiohttp.ClientSession, url: str) -> int:
    async with session.post(f"{url}/v1/search", json=SEARCH) as answer:
        return answer.status


async def test_accepts_in_flight_at_a_stop_are_ended_and_answered(world: World) -> None:
    signals = StopSignals()
    world.store.free.clear()
    async with aiohttp.ClientSession() as session, served(world, signals, 30) as url:
        held = [asyncio.create_task(post(session, url)) for _ in range(20)]
        await until(lambda: world.services.desk.in_flight == 20)
        signals.ask()
        world.store.free.set()
        assert await asyncio.gather(*held) == [202] * 20
    assert len((await world.client.get("/v1/jobs")).json()["data"]) == 20


async def test_who_waits_at_a_stop_is_let_go(world: World) -> None:
    signals = StopSignals()
    job = await world.submit()
    async with aiohttp.ClientSession() as session, served(world, signals, 30) as url:

        async def wait() -> str:
            async with session.get(f"{url}/v1/jobs/{job['id']}?wait=60") as answer:
                return str((await answer.json())["state"])

        waiting = asyncio.create_task(wait())
        await world.store.asked_finished.wait()
        signals.ask()
        assert await waiting == "queued"


async def test_a_caller_who_hangs_up_does_not_wait_on(world: World) -> None:
    job = await world.submit()
    async with aiohttp.ClientSession() as session, served(world, StopSignals(), 1) as url:
        waiting = asyncio.create_task(session.get(f"{url}/v1/jobs/{job['id']}?wait=60"))
        await world.store.asked_finished.wait()
        assert world.services.waiting.waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: world.services.waiting.waiting == 0)


async def test_a_second_signal_does_not_wait_for_what_hangs(world: World) -> None:
    signals = StopSignals()
    world.store.free.clear()
    async with aiohttp.ClientSession() as session, served(world, signals, 3600) as url:
        hangs = asyncio.create_task(post(session, url))
        await world.store.inserting.wait()
        signals.ask()
        signals.ask()
    world.store.free.set()
    await asyncio.gather(hangs, return_exceptions=True)


def test_an_address_that_cannot_be_had_is_said_plainly() -> None:
    with listen(IngressSettings(port=0)) as taken:
        taken.listen()
        settings = IngressSettings(port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="cannot listen on 127"):
            listen(settings)
