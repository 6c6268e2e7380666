from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from forebay.local.demo_calls import Callers, Request
from forebay.local.wire import connect, post, read, whole_length

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _serve(answer: Answer) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    for piece in (
        b"HTTP/1.1 202 Acc",
        b"epted\r\nContent-Length: ",
        b"%d\r\n\r\n" % len(body),
        body,
    ):
        writer.write(piece)
        await writer.drain()
    await reader.read()
    writer.close()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{")
    writer.close()


async def test_an_answer_in_pieces_is_read_whole():
    server, url = await _serve(_in_pieces)
    wire = await connect(url)
    ms, answer = await wire.ask(post(f"{url}/v1/search", {"id": "job_1"}))
    wire.close()
    server.close()
    await server.wait_closed()
    assert read(answer) == (202, {"id": "job_1"})
    assert ms > 0


async def test_a_connection_that_breaks_in_the_middle_is_an_error():
    server, url = await _serve(_hang_up)
    wire = await connect(url)
    with pytest.raises(OSError, match="closed before the answer"):
        await wire.ask(post(url, {}))
    with pytest.raises(OSError, match="not connected"):
        await wire.ask(post(url, {}))
    server.close()
    await server.wait_closed()


async def test_a_caller_without_an_answer_has_status_0():
    server, url = await _serve(_hang_up)
    async with Callers(url, [Request("search", {"query": "x"})] * 3) as callers:
        receipts = await callers.fire()
    server.close()
    await server.wait_closed()
    assert [(receipt.status, receipt.job_id) for receipt in receipts] == [(0, None)] * 3


@pytest.mark.parametrize(
    ("received", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:5\r\nX: y\r\n\r\n", 48),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 27),
    ],
)
def test_the_length_of_an_answer_is_known_from_its_head(received: bytes, length: int | None):
    assert whole_length(received) == length
