from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from aiohttp import web

from forebay.addresses import AddressGuard
from forebay.errors import ErrorCode, TooLarge, Unreadable
from forebay.http import HTTP_FAILURES, build_client, outcome_of_failure, read_limited
from forebay.outcomes import Failed, Retry
from tests.unit.http.web import Names, Site


async def failure_of(url: str, timeout_s: float = 5, **options: Any) -> Retry | Failed:
    async with build_client(concurrency=1, timeout_s=timeout_s, **options) as client:
        try:
            async with client.stream("GET", url) as response:
                await read_limited(response, 1_000_000)
        except HTTP_FAILURES as error:
            return outcome_of_failure(error, "acme")
    raise AssertionError("the call did not fail")


async def raw_server(answer: bytes) -> tuple[asyncio.Server, int]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_a_server_that_does_not_answer_is_a_timeout(site: Site) -> None:
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    site.serve("/", hang)
    outcome = await failure_of(f"{site.url}/", timeout_s=0.05)
    released.set()
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_TIMEOUT
    assert outcome.error.retryable


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
    ],
    ids=["hung-up", "short", "no-last-chunk", "bad-chunk", "ssh"],
)
async def test_a_broken_answer_can_pass_and_says_how_it_broke(answer: bytes, says: str) -> None:
    server, port = await raw_server(answer)
    async with server:
        outcome = await failure_of(f"http://127.0.0.1:{port}/")
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert says in outcome.error.detail


async def test_a_refused_connection_is_an_error_not_a_timeout() -> None:
    server, port = await raw_server(b"")
    server.close()
    await server.wait_closed()
    outcome = await failure_of(f"http://127.0.0.1:{port}/")
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert "does not take the connection" in outcome.error.detail


async def test_a_name_without_an_address_can_pass() -> None:
    outcome = await failure_of("http://nowhere.example.com/", resolver=Names())
    assert isinstance(outcome, Retry)
    assert "could not be resolved" in outcome.error.detail


async def test_a_tls_failure_is_told_as_one() -> None:
    async def talk_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk_plainly, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await failure_of(f"https://127.0.0.1:{port}/")
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert "TLS" in outcome.error.detail


async def test_a_forbidden_address_fails_for_good_and_names_no_target() -> None:
    outcome = await failure_of("http://10.20.30.40/", guard=AddressGuard())
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ADDRESS_FORBIDDEN
    assert "10.20" not in outcome.error.detail


def test_too_large_fails_for_good_and_unreadable_can_pass() -> None:
    large = outcome_of_failure(TooLarge("wire", 10), "acme")
    assert isinstance(large, Failed)
    assert large.error.code is ErrorCode.TOO_LARGE
    damaged = outcome_of_failure(Unreadable(), "acme")
    assert isinstance(damaged, Retry)
    assert damaged.error.code is ErrorCode.PROVIDER_ERROR


def test_a_url_that_cannot_be_called_is_the_callers_to_change() -> None:
    outcome = outcome_of_failure(httpx.UnsupportedProtocol("no"), "acme")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED


def test_a_defect_of_ours_is_not_made_a_providers() -> None:
    with pytest.raises(ZeroDivisionError):
        outcome_of_failure(ZeroDivisionError(), "acme")
