from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web

from crawler_worker.robots import MAX_ROBOTS_BYTES, Robots
from forebay.addresses import AddressGuard
from forebay.errors import ErrorCode
from forebay.http import build_client
from forebay.outcomes import Failed, Retry
from tests.unit.crawler_worker.conftest import FakeTime
from tests.unit.http.web import Handler, Site


def says(text: str | bytes, status: int = 200, **headers: str) -> Handler:
    body = text if isinstance(text, bytes) else text.encode()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


@pytest.fixture
async def robots(site: Site, time: FakeTime) -> AsyncIterator[Robots]:
    guard = AddressGuard(site.allow)
    async with build_client(concurrency=5, timeout_s=5, guard=guard) as client:
        yield Robots(client, "ForebayBot/0.1 (+http://x)", ttl_s=100, timeout_s=5, clock=time.clock)


async def allowed(robots: Robots, site: Site, path: str) -> bool:
    url = httpx.URL(site.url + path)
    rules = await robots.rules(url)
    assert rules.failure is None
    return rules.allow(url)


async def test_rules_for_our_name_come_before_rules_for_all(robots: Robots, site: Site) -> None:
    site.serve(
        "/robots.txt",
        says(
            "User-agent: *\nDisallow: /\n\n"
            "User-agent: forebaybot\nDisallow: /private/\nAllow: /private/open\nCrawl-delay: 2.5\n"
        ),
    )
    assert await allowed(robots, site, "/")
    assert not await allowed(robots, site, "/private/page")
    assert await allowed(robots, site, "/private/open")
    assert (await robots.rules(httpx.URL(site.url))).delay_s == 2.5


async def test_wildcards_queries_and_ends_are_understood(robots: Robots, site: Site) -> None:
    site.serve("/robots.txt", says("User-agent: *\nDisallow: /*.pdf$\nDisallow: /*?session=\n"))
    assert not await allowed(robots, site, "/a/b.pdf")
    assert await allowed(robots, site, "/a/b.pdf.html")
    assert not await allowed(robots, site, "/a?session=1")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_site_without_rules_allows_everything(
    robots: Robots, site: Site, status: int
) -> None:
    site.serve("/robots.txt", says("User-agent: *\nDisallow: /", status))
    assert await allowed(robots, site, "/anything")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_rules_that_cannot_be_known_forbid_everything_for_now(
    robots: Robots, site: Site, time: FakeTime, status: int
) -> None:
    site.serve("/robots.txt", says("", status))
    rules = await robots.rules(httpx.URL(site.url))
    assert isinstance(rules.failure, Retry)
    assert "robots.txt" in rules.failure.error.detail
    site.serve("/robots.txt", says(""))
    assert (await robots.rules(httpx.URL(site.url))).failure is not None
    time.now += 31  # asked again after half a minute, not by every job
    assert await allowed(robots, site, "/")


async def test_a_site_that_hangs_up_cannot_be_fetched_now(robots: Robots, site: Site) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    site.serve("/robots.txt", hang_up)
    failure = (await robots.rules(httpx.URL(site.url))).failure
    assert isinstance(failure, Retry)
    assert failure.error.code is ErrorCode.PROVIDER_ERROR


async def test_rules_are_remembered_and_asked_for_once_by_many(
    robots: Robots, site: Site, time: FakeTime
) -> None:
    site.serve("/robots.txt", says("User-agent: *\nDisallow: /x"))
    await asyncio.gather(*(robots.rules(httpx.URL(f"{site.url}/{n}?q#f")) for n in range(20)))
    assert len(site.requests) == 1
    time.now += 99
    await robots.rules(httpx.URL(site.url))
    assert len(site.requests) == 1
    time.now += 2
    await robots.rules(httpx.URL(site.url))
    assert len(site.requests) == 2


async def test_five_redirects_are_followed_and_a_sixth_is_not(robots: Robots, site: Site) -> None:
    for n in range(6):
        site.serve(f"/hop{n}", says("", 302, Location=f"/hop{n + 1}"))
    site.serve("/robots.txt", says("", 301, Location="/hop2"))
    site.serve("/hop6", says("User-agent: *\nDisallow: /"))
    assert not await allowed(robots, site, "/page")
    site.requests.clear()
    site.serve("/robots.txt", says("", 301, Location="/hop1"))
    robots._entries.clear()
    assert await allowed(robots, site, "/page")
    assert len(site.requests) == 6


async def test_a_redirect_to_a_forbidden_address_is_not_followed(
    robots: Robots, site: Site
) -> None:
    site.serve("/robots.txt", says("", 302, Location="http://169.254.169.254/latest"))
    failure = (await robots.rules(httpx.URL(site.url))).failure
    assert isinstance(failure, Failed)
    assert failure.error.code is ErrorCode.ADDRESS_FORBIDDEN


async def test_only_the_first_half_megabyte_of_rules_is_read(robots: Robots, site: Site) -> None:
    early = b"User-agent: *\nDisallow: /early\n"
    filler = b"# " + b"x" * 998 + b"\n"
    long = early + filler * (MAX_ROBOTS_BYTES // len(filler) + 50) + b"Disallow: /late\n"
    site.serve("/robots.txt", says(long))
    assert not await allowed(robots, site, "/early")
    assert await allowed(robots, site, "/late")


@pytest.mark.parametrize("rubbish", [b"", b"\xff\xfe\x00", b"<html>not rules</html>", b"\0" * 100])
async def test_rubbish_is_no_rules(robots: Robots, site: Site, rubbish: bytes) -> None:
    site.serve("/robots.txt", says(rubbish))
    assert await allowed(robots, site, "/")


async def test_a_byte_order_mark_does_not_hide_the_first_rule(robots: Robots, site: Site) -> None:
    site.serve("/robots.txt", says("\ufeffUser-agent: *\nDisallow: /x"))
    assert not await allowed(robots, site, "/x")
