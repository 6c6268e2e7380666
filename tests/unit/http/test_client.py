from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from aiohttp import web

from forebay.addresses import AddressGuard
from forebay.errors import AddressForbidden
from forebay.http import build_client
from tests.unit.http.test_addresses import CORPUS
from tests.unit.http.web import Names, Site


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello", headers={"Set-Cookie": "track=1"})


class Blind(AddressGuard):
    """A guard that sees neither names nor answers, as a parser that reads a URL wrongly would."""

    def check_url(self, url: str) -> str | None:
        del url
        return None

    def check_resolved(self, host: str, port: int, addresses: Iterable[str]) -> str | None:
        del host, port, addresses
        return None


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    async with build_client(concurrency=1, timeout_s=5, guard=AddressGuard()) as client:
        yield client


@pytest.mark.parametrize("url", CORPUS)
async def test_no_socket_is_connected_for_a_forbidden_target(
    url: str, guarded: httpx.AsyncClient, connects: list[Any]
) -> None:
    with pytest.raises((AddressForbidden, httpx.InvalidURL)):
        await guarded.get(url)
    assert connects == []


async def test_a_name_that_resolves_to_a_forbidden_address_is_not_called(
    connects: list[Any],
) -> None:
    names = Names(rebind_example_com=[["93.184.215.14", "::ffff:10.0.0.1"]])
    async with build_client(
        concurrency=1, timeout_s=5, guard=AddressGuard(), resolver=names
    ) as client:
        with pytest.raises(AddressForbidden, match="private address inside an IPv6 address"):
            await client.get("http://rebind.example.com/")
    assert connects == []


async def test_a_name_that_changes_its_mind_is_connected_to_only_at_judged_addresses(
    site: Site, connects: list[Any]
) -> None:
    """Public first, private later: each connection is made to what was judged for it."""
    site.serve("/", hello)
    names = Names(rebind_example_com=[["192.0.9.9"], ["127.0.0.1"]])
    guard = AddressGuard(ports=frozenset({site.port}))
    async with build_client(concurrency=1, timeout_s=0.2, guard=guard, resolver=names) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://rebind.example.com:{site.port}/")
        with pytest.raises(AddressForbidden):
            await client.get(f"http://rebind.example.com:{site.port}/")
    assert names.asked == ["rebind.example.com"] * 2
    assert {address[0] for address in connects} <= {"192.0.9.9"}
    assert site.requests == []


async def test_the_last_gate_stops_what_the_first_two_let_pass(
    site: Site, connects: list[Any]
) -> None:
    site.serve("/", hello)
    names = Names(inner_example_com=[["127.0.0.1", "127.0.0.2"]])
    async with build_client(concurrency=1, timeout_s=5, guard=Blind(), resolver=names) as client:
        for host in ("127.0.0.1", "inner.example.com"):
            with pytest.raises(AddressForbidden, match="a loopback address"):
                await client.get(f"http://{host}:{site.port}/")
    assert connects == []
    assert site.requests == []


async def test_an_allowed_host_is_called_by_name_and_by_address(site: Site) -> None:
    site.serve("/", hello)
    names = Names(dev_example_com=[["127.0.0.1"]], evil_example_com=[["127.0.0.1"]])
    guard = AddressGuard(site.allow | {("dev.example.com", site.port)})
    async with build_client(concurrency=1, timeout_s=5, guard=guard, resolver=names) as client:
        assert (await client.get(f"{site.url}/")).text == "hello"
        assert (await client.get(f"http://dev.example.com:{site.port}/")).text == "hello"
        with pytest.raises(AddressForbidden):
            await client.get(f"http://evil.example.com:{site.port}/")


async def test_a_call_is_never_repeated_when_the_server_hangs_up(site: Site) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    site.serve("/", hello)
    site.serve("/gone", hang_up)
    async with build_client(concurrency=1, timeout_s=5) as client:
        await client.get(f"{site.url}/")  # so that the connection is one that was kept
        with pytest.raises(httpx.TransportError):
            await client.get(f"{site.url}/gone")
    assert len(site.requests) == 2


async def test_redirects_are_not_followed_and_cookies_are_not_kept(site: Site) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/", "Set-Cookie": "a=b"})

    site.serve("/", hello)
    site.serve("/go", elsewhere)
    async with build_client(concurrency=1, timeout_s=5) as client:
        assert (await client.get(f"{site.url}/go")).status_code == 302
        await client.get(f"{site.url}/")
        await client.get(f"{site.url}/")
    assert all("Cookie" not in request.headers for request in site.requests)


async def test_bodies_arrive_as_they_are_on_the_wire(site: Site) -> None:
    packed = gzip.compress(b"hello")

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    site.serve("/", answer)
    async with (
        build_client(concurrency=1, timeout_s=5) as client,
        client.stream("GET", f"{site.url}/") as response,
    ):
        assert b"".join([chunk async for chunk in response.aiter_raw()]) == packed
    assert site.requests[0].headers["Accept-Encoding"] == "gzip, deflate"


async def test_proxies_of_the_environment_are_not_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serve("/", hello)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with build_client(concurrency=1, timeout_s=5) as client:
        assert (await client.get(f"{site.url}/")).text == "hello"
