"""The application under its real server, on the loopback, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from forebay.errors import ConfigurationError
from forebay.jobs import Event
from forebay.process import StopSignals
from ingress.connections import Connections
from ingress.problems import Problem
from ingress.protocol import MAX_HEAD_BYTES
from ingress.server import Stop, build_server, listen
from ingress.settings import IngressSettings, PressureSettings
from tests.ingress_by_hand import SEARCH, World, until


@asynccontextmanager
async def served(
    world: World,
    signals: StopSignals,
    grace_s: float,
    lame_duck_s: float = 0,
    **pressure: float,
) -> AsyncIterator[str]:
    settings = IngressSettings(port=0, grace_s=grace_s, lame_duck_s=lame_duck_s)
    stop = Stop(signals, world.services.readiness.leave, world.services.waiting.release)
    with listen(settings) as listener:
        connections = Connections(PressureSettings(**pressure), world.services.metrics)
        server = build_server(world.app, settings, connections, stop)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        host, port = listener.getsockname()
        await until(lambda: server.started)
        try:
            yield f"http://{host}:{port}"
        finally:
            signals.ask()
            await serving
            if server.force_exit:
                # At a forced end uvicorn leaves this task behind; collected later, it would log
                # an error in the middle of some other test.
                await server.lifespan.shutdown()


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


async def test_in_lame_duck_everybody_is_served_and_asked_to_let_go(world: World) -> None:
    signals = StopSignals()
    async with (
        aiohttp.ClientSession() as session,
        served(world, signals, 30, lame_duck_s=3600) as url,
        connected(url) as (reader, writer),
    ):
        assert await closes(session, f"{url}/readyz") == (200, False)
        writer.write(HEAD + b"\r\n")
        assert b"connection: close" not in await reader.readuntil(b"ok\n")
        signals.ask()
        await until(lambda: world.services.readiness.leaving)
        # On a connection that was open before, and on new ones.
        writer.write(HEAD + b"\r\n")
        assert b"connection: close" in await reader.read()
        for _ in range(3):
            assert await closes(session, f"{url}/readyz") == (503, True)
            assert await closes(session, f"{url}/livez") == (200, True)
            assert await post(session, url) == 202
        async with session.get(f"{url}/readyz") as answer:
            assert (await answer.json(content_type=None))["code"] == "stopping"


async def closes(session: aiohttp.ClientSession, url: str) -> tuple[int, bool]:
    """The status, and whether the answer ends the connection."""
    async with session.get(url) as answer:
        return answer.status, answer.headers.get("connection") == "close"


async def test_what_is_under_way_when_lame_duck_begins_ends_its_connection(world: World) -> None:
    signals = StopSignals()
    world.store.free.clear()
    async with aiohttp.ClientSession() as session, served(world, signals, 30, 3600) as url:
        held = asyncio.create_task(session.post(f"{url}/v1/search", json=SEARCH))
        await world.store.inserting.wait()
        signals.ask()
        await until(lambda: world.services.readiness.leaving)
        world.store.free.set()
        async with await held as answer:
            assert (answer.status, answer.headers.get("connection")) == (202, "close")


async def test_who_waits_goes_on_in_lame_duck_and_is_let_go_at_its_end(world: World) -> None:
    signals = StopSignals()
    done, open_ = await world.submit(), await world.submit()
    async with aiohttp.ClientSession() as session, served(world, signals, 30, 3600) as url:

        async def wait(job: str) -> str:
            async with session.get(f"{url}/v1/jobs/{job}?wait=60") as answer:
                return str((await answer.json())["state"])

        waiting = [asyncio.create_task(wait(job["id"])) for job in (done, open_)]
        await until(lambda: world.services.waiting.waiting == 2)
        signals.ask()
        await until(lambda: world.services.readiness.leaving)
        await world.finish(done["id"], Event.SUCCEEDED, result="{}")
        assert await waiting[0] == "succeeded"
        assert not waiting[1].done()
        signals.ask()
        assert await waiting[1] == "queued"


HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{    \r\n"
)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def send(writer: asyncio.StreamWriter, size: int) -> None:
    for _ in range(size // 65_536):
        writer.write(b"x" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        HEAD + b"X-Many: some\r\n" * (MAX_HEAD_BYTES // 10) + b"\r\n",
        b"GET /livez?" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        POST.replace(b"Host", b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\nHost", 1)
        + b'c\r\n"query":"x"}\r\n0\r\n\r\n',
    ],
)
async def test_a_head_over_the_limit_is_431_and_the_end_of_the_connection(
    world: World, sent: bytes
) -> None:
    async with served(world, StopSignals(), 1) as url, connected(url) as (reader, writer):
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert {b"content-type: application/problem+json", b"connection: close"} <= set(headers)
    assert Problem.model_validate_json(body).code == "headers_too_large"
    assert (await world.client.get("/v1/jobs")).json()["data"] == []


@pytest.mark.parametrize("begun", [HEAD + b"X-Long: ", b"GET /", POST + b"0\r\nX-Trailer: "])
async def test_a_line_without_end_is_cut_off_before_it_fills_the_memory(
    world: World, begun: bytes
) -> None:
    async with served(world, StopSignals(), 1) as url, connected(url) as (_, writer):
        writer.write(begun)
        with pytest.raises(ConnectionError):
            await send(writer, 64 * 1024 * 1024)


async def test_a_head_and_a_body_within_their_limits_are_served_on_one_connection(
    world: World,
) -> None:
    headers = {"X-Long": "x" * (MAX_HEAD_BYTES - 1024)}
    body = {**SEARCH, "site": "x" * 900_000}
    async with aiohttp.ClientSession() as session, served(world, StopSignals(), 1) as url:
        for _ in range(3):
            async with session.get(f"{url}/livez", headers=headers) as answer:
                assert answer.status == 200
            async with session.post(f"{url}/v1/search", json=body, headers=headers) as answer:
                assert answer.status == 422


async def test_a_half_sent_body_does_not_hold_up_a_stop(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    signals = StopSignals()
    async with served(world, signals, 30) as url, connected(url) as (reader, writer):
        writer.write(POST)
        async with aiohttp.ClientSession() as session, session.get(f"{url}/livez") as answer:
            assert answer.status == 200
        signals.ask()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_address_that_cannot_be_had_is_said_plainly() -> None:
    with listen(IngressSettings(port=0)) as taken:
        taken.listen()
        settings = IngressSettings(port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="cannot listen on 127"):
            listen(settings)
