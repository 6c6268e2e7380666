"""Callers who stand still, under the real server: each is cut off, and nobody waits for them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from forebay.jobs import Event
from forebay.process import StopSignals
from forebay.progress import Output
from forebay.testing.polling import until as soon
from ingress.connections import LOOK_S
from ingress.problems import Problem
from ingress.protocol import LATE_BODY_S
from tests.ingress_by_hand import SEARCH, World, until
from tests.unit.ingress.test_server import HEAD, POST, connected, post, served

PATIENCE_S = 30


@asynccontextmanager
async def impatient(world: World, **pressure: float) -> AsyncIterator[str]:
    """Each deadline is short, if it is not said."""
    short = {"head_timeout_s": 1.0, "write_timeout_s": 0.5} | pressure
    async with served(world, StopSignals(), 1, **short) as url, asyncio.timeout(PATIENCE_S):
        yield url


def cut(world: World, why: str) -> float:
    registry = world.services.metrics.registry
    return registry.get_sample_value("forebay_connections_cut_total", {"why": why}) or 0


async def cut_off(world: World, why: str) -> None:
    async def is_cut() -> bool:
        return cut(world, why) > 0

    await soon(is_cut)


async def drip(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte now and then, for ever."""
    while not writer.is_closing():
        writer.write(text)
        await asyncio.sleep(0.1)


@asynccontextmanager
async def dripping(writer: asyncio.StreamWriter, text: bytes = b"x") -> AsyncIterator[None]:
    task = asyncio.create_task(drip(writer, text))
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize("begun", [b"GET /livez?", HEAD + b"X-Slow: "])
async def test_a_head_that_trickles_is_408_after_its_time(world: World, begun: bytes) -> None:
    async with impatient(world) as url, connected(url) as (reader, writer):
        writer.write(begun)
        async with dripping(writer):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert Problem.model_validate_json(body).code == "request_timeout"
    assert cut(world, "slow head") == 1


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"])
async def test_empty_lines_for_ever_are_a_slow_head_too(world: World, before: bytes) -> None:
    """Also between two requests: each byte would stop the timer of an idle connection."""
    async with impatient(world) as url, connected(url) as (reader, writer):
        if before:
            writer.write(before)
            await reader.readuntil(b"ok\n")
        async with dripping(writer, b"\r\n"):
            assert b" 200 " not in await reader.read()
    assert cut(world, "slow head") == 1


async def test_who_connects_and_says_nothing_is_let_go(world: World) -> None:
    async with impatient(world) as url, connected(url) as (reader, _):
        assert await reader.read() == b""


async def test_a_body_that_goes_on_after_its_answer_is_cut_off(world: World) -> None:
    lasting = POST.replace(b"POST /v1/search", b"POST /v1/nothing")
    async with impatient(world) as url, connected(url) as (reader, writer):
        writer.write(lasting)
        assert b" 404 " in await reader.readuntil(b"\r\n")
        async with dripping(writer, b"1\r\nx\r\n"):
            while await _read(reader):
                pass
    assert cut(world, "slow body") == 1


async def test_a_request_behind_another_one_has_the_time_of_any_body(world: World) -> None:
    """Its body is late for nobody: the answer that is complete is the one before it."""
    async with impatient(world) as url, connected(url) as (reader, writer):
        writer.write(HEAD + b"\r\n" + POST)
        await reader.readuntil(b"ok\n")
        await asyncio.sleep(LATE_BODY_S + 2 * LOOK_S)
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 4")
    assert cut(world, "slow body") == 0


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


@asynccontextmanager
async def deaf(url: str, path: str) -> AsyncIterator[socket.socket]:
    """A caller who asks and takes nothing of the answer, with as small a window as there is."""
    with await narrow(url) as mute:
        ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        await asyncio.get_running_loop().sock_sendall(mute, ask)
        yield mute


async def large_batch(world: World) -> str:
    """Its results are far more than the kernel takes for a caller who does not."""
    jobs = [{"kind": "search", "input": SEARCH} for _ in range(20)]
    batch = (await world.client.post("/v1/batches", json={"jobs": jobs})).json()
    listed = (await world.client.get("/v1/jobs")).json()["data"]
    for job in listed:
        await world.finish(job["id"], Event.SUCCEEDED, result='"' + "x" * 1_000_000 + '"')
    return f"{batch['links']['self']}/results"


async def test_a_reader_of_results_who_takes_nothing_is_cut_off(world: World) -> None:
    path = await large_batch(world)
    async with impatient(world) as url, deaf(url, path):
        await cut_off(world, "slow reader")
        async with aiohttp.ClientSession() as session:
            assert await post(session, url) == 202


async def test_a_reader_of_one_large_answer_who_takes_nothing_is_cut_off(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result='"' + "x" * 14_000_000 + '"')
    async with impatient(world) as url, deaf(url, f"/v1/jobs/{job['id']}"):
        await cut_off(world, "slow reader")


async def test_who_follows_a_job_and_takes_nothing_is_cut_off(world: World) -> None:
    llm = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
    job = await world.submit("llm", llm)
    written = json.dumps({"content": "x" * 14_000_000})
    await world.finish(job["id"], Event.SUCCEEDED, result=written)
    async with impatient(world) as url, deaf(url, f"/v1/jobs/{job['id']}/events"):
        await cut_off(world, "slow reader")
        await until(lambda: not any("events" in task.get_name() for task in asyncio.all_tasks()))
    assert not [line for line in world.logs if line["event"] == "request.failed"]


async def test_a_slow_reader_who_goes_on_reading_gets_all_of_it(world: World) -> None:
    """Of an answer that is there at once, and waits here for far longer than the limit."""
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result='"' + "x" * 14_000_000 + '"')
    async with impatient(world) as url:
        reader, writer = await asyncio.open_connection(sock=await narrow(url))
        ask = f"GET /v1/jobs/{job['id']} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(ask.encode())
        size = 0
        while piece := await reader.read(1024 * 1024):
            size += len(piece)
            await asyncio.sleep(len(piece) / 4_000_000)  # 14 MB in 3.5 s
        writer.close()
    assert size > 14_000_000
    assert cut(world, "slow reader") == 0


async def narrow(url: str) -> socket.socket:
    """A connection that the kernel does not fill for its reader."""
    mute = socket.socket()
    mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    mute.setblocking(False)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    await asyncio.get_running_loop().sock_connect(mute, address)
    return mute


async def test_who_waits_longest_for_a_head_makes_way_for_a_new_connection(world: World) -> None:
    async with (
        impatient(world, max_connections=3, head_timeout_s=3600) as url,
        connected(url) as (first, _),
        connected(url) as (second, _),
        connected(url),
        connected(url) as (last, asking),
    ):
        asking.write(HEAD + b"\r\n")
        assert b" 200 " in await last.readuntil(b"ok\n")
        assert await _read(first) == b""
        assert not second.at_eof()
    assert cut(world, "gave way") == 1
    assert cut(world, "full") == 0


@pytest.mark.parametrize("path", ["/v1/search", "/v1/nothing"])
async def test_who_does_not_finish_a_request_makes_way(world: World, path: str) -> None:
    """Whether it was answered already or not."""
    begun = POST.replace(b"/v1/search", path.encode())
    async with (
        impatient(world, max_connections=1, head_timeout_s=3600) as url,
        connected(url) as (reader, writer),
    ):
        # An answer to a request before it tells that its head was read.
        writer.write(HEAD + b"\r\n" + begun)
        await reader.readuntil(b"ok\n")
        async with connected(url) as (last, asking):
            asking.write(HEAD + b"\r\n")
            assert b" 200 " in await last.readuntil(b"ok\n")
    assert (cut(world, "gave way"), cut(world, "full")) == (1, 0)


async def test_who_takes_nothing_of_an_answer_makes_way(world: World) -> None:
    path = await large_batch(world)
    async with (
        impatient(world, max_connections=1, write_timeout_s=3600) as url,
        deaf(url, path) as mute,
    ):
        await asyncio.get_running_loop().sock_recv(mute, 1)  # more waits than the kernel takes
        async with connected(url) as (last, asking):
            asking.write(HEAD + b"\r\n")
            assert b" 200 " in await last.readuntil(b"ok\n")
    assert (cut(world, "gave way"), cut(world, "full")) == (1, 0)


async def test_who_took_all_there_is_does_not_make_way(world: World) -> None:
    """Of a stream that goes on: what was taken late is taken."""
    llm = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    job = await world.submit("llm", llm)
    await world.claim(job["id"])
    much = "x" * 14_000_000
    async with impatient(world, max_connections=1, write_timeout_s=3600) as url:
        reader, writer = await asyncio.open_connection(sock=await narrow(url))
        writer.write(
            f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )
        await reader.readuntil(b"event: job.running")
        world.live.worker().say(Output(job["id"], 1, 0, much))
        taken = 0
        while taken < len(much):
            taken += (await reader.read(1024 * 1024)).count(b"x")
        async with connected(url) as (last, _):
            assert b" 503 " in await last.readuntil(b"\r\n")
        writer.close()
    assert (cut(world, "gave way"), cut(world, "full")) == (0, 1)


async def test_with_every_connection_at_work_a_new_one_is_503(world: World) -> None:
    world.store.free.clear()
    async with (
        impatient(world, max_connections=2) as url,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):
        held = [group.create_task(post(session, url)) for _ in range(2)]
        await until(lambda: world.services.desk.in_flight == 2)
        async with connected(url) as (reader, _):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        problem = Problem.model_validate_json(body)
        assert (head[:13], problem.code) == (b"HTTP/1.1 503 ", "overloaded")
        assert f"retry-after: {problem.retry_after_s:g}".encode() in head
        assert cut(world, "full") == 1
        world.store.free.set()
        assert [await one for one in held] == [202, 202]
        # Whoever was answered waits now, and makes way.
        async with aiohttp.ClientSession() as another:
            assert await post(another, url) == 202


async def test_callers_who_are_quick_are_never_cut_off(world: World) -> None:
    async with impatient(world) as url, aiohttp.ClientSession() as session:
        for _ in range(2):
            assert await post(session, url) == 202
            await asyncio.sleep(2.1)  # between two requests a connection may rest
    found: Any = [
        sample
        for metric in world.services.metrics.registry.collect()
        if metric.name == "forebay_connections_cut"
        for sample in metric.samples
    ]
    assert found == []
