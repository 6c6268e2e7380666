"""S2 in the crawler: the page, its robots.txt, every redirect, and a page that an API fetches."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from crawler_worker.handler import CrawlHandler, open_handler
from crawler_worker.settings import CrawlerSettings, CrawlProvider, FirecrawlSettings, SiteSettings
from forebay.errors import ErrorCode
from forebay.outcomes import Failed, Outcome, Retry
from forebay.requests import CrawlRequest
from tests.unit.crawler_worker.conftest import crawl_job
from tests.unit.http.test_addresses import CORPUS
from tests.unit.http.web import Names, Site

HOPS = 3
SITES = SiteSettings(crawl_delay_s=0, per_host_concurrency=3, page_timeout_s=5)
REDIRECTS = (301, 302, 303, 307, 308)


class _Connects:
    """Every address this process connects to; an audit hook cannot be taken off."""

    def __init__(self) -> None:
        self.seen: list[Any] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.seen is not None:
            self.seen.append(arguments[1])


@pytest.fixture(scope="module")
def audited() -> _Connects:
    return _Connects()


@pytest.fixture
def connects(audited: _Connects) -> Iterator[list[Any]]:
    audited.seen = []
    yield audited.seen
    audited.seen = None


@pytest.fixture
async def handler(site: Site) -> AsyncIterator[CrawlHandler]:
    """It may crawl the test's site; `rebind.example.com` is public once and then never again."""
    names = Names(rebind_example_com=[["93.184.215.14", "127.0.0.1"]])
    settings = CrawlerSettings()
    async with open_handler(settings, SITES, FirecrawlSettings(), site.allow, names) as opened:
        yield opened


async def crawl(handler: CrawlHandler, url: str) -> Outcome:
    return await handler.handle(crawl_job(), CrawlRequest(url=url))


def is_refused(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.error.code is ErrorCode.ADDRESS_FORBIDDEN


def is_no_url(outcome: Outcome) -> bool:
    """What our client cannot read as a URL is called by nobody."""
    return isinstance(outcome, Failed) and outcome.error.code is ErrorCode.PROVIDER_REJECTED


async def test_every_form_is_refused_when_it_is_asked_for(
    handler: CrawlHandler, connects: list[Any], figures: list[str]
) -> None:
    said: Counter[str] = Counter()
    for url in CORPUS:
        try:
            request = CrawlRequest(url=url)
        except ValidationError:
            said["no URL"] += 1
            continue
        outcome = await handler.handle(crawl_job(), request)
        assert is_refused(outcome) or is_no_url(outcome), url
        said["forbidden" if is_refused(outcome) else "no URL"] += 1
    assert connects == []
    assert said["forbidden"] >= 150
    figures.append(f"S2: {len(CORPUS)} forms given to the crawler: {dict(said)}, 0 connects")


async def test_every_form_is_refused_behind_a_chain_of_redirects(
    handler: CrawlHandler, site: Site, connects: list[Any], figures: list[str]
) -> None:
    """Of the page itself and of its robots.txt."""
    turns = count()

    async def on(request: web.Request) -> web.Response:
        left, to = int(request.query["left"]), request.query["to"]
        here = f"/on?left={left - 1}&to={quote(to)}"
        headers = {"Location": here if left else to}
        return web.Response(status=REDIRECTS[next(turns) % len(REDIRECTS)], headers=headers)

    async def no_rules(_: web.Request) -> web.Response:
        return web.Response(status=404)

    site.serve("/on", on)
    site.serve("/robots.txt", no_rules)
    outcomes: Counter[str] = Counter()
    for url in CORPUS:
        if not url.isascii() or not url.isprintable():
            continue
        target = f"{site.url}/on?left={HOPS - 1}&to={quote(url)}"
        outcome = await crawl(handler, target)
        assert isinstance(outcome, Failed | Retry), (url, outcome)
        outcomes[outcome.error.code] += 1
    assert outcomes.total() >= 150
    assert outcomes[ErrorCode.ADDRESS_FORBIDDEN] >= 120
    assert {address[1] for address in connects} <= {site.port}, "nothing but the site was called"
    figures.append(
        f"S2: {outcomes.total()} forms behind {HOPS} redirects: {dict(outcomes)}, 0 connects"
    )


async def test_a_robots_txt_that_redirects_to_an_inner_address_is_not_followed(
    handler: CrawlHandler, site: Site, connects: list[Any]
) -> None:
    async def inward(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/robots.txt"})

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<p>Words.</p>", content_type="text/html")

    site.serve("/robots.txt", inward)
    site.serve("/", page)
    await crawl(handler, f"{site.url}/")
    assert {address[0] for address in connects} <= {"127.0.0.1"}
    assert {address[1] for address in connects} <= {site.port}


async def test_a_redirect_to_a_name_that_resolves_inward_is_refused(
    handler: CrawlHandler, site: Site, connects: list[Any]
) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://rebind.example.com:8080/"})

    async def no_rules(_: web.Request) -> web.Response:
        return web.Response(status=404)

    site.serve("/robots.txt", no_rules)
    site.serve("/", away)
    assert is_refused(await crawl(handler, f"{site.url}/"))
    assert {address[1] for address in connects} <= {site.port}


async def test_no_form_is_handed_to_an_api_that_fetches_for_us(
    site: Site, connects: list[Any]
) -> None:
    settings = CrawlerSettings(provider=CrawlProvider.FIRECRAWL)
    api = FirecrawlSettings(url=f"{site.url}/", api_key=SecretStr("key"))
    refused = 0
    async with open_handler(settings, SITES, api, frozenset(), Names()) as handler:
        for url in CORPUS:
            try:
                request = CrawlRequest(url=url)
            except ValidationError:
                continue
            assert is_refused(await handler.handle(crawl_job(), request)), url
            refused += 1
    assert refused >= 150
    assert connects == []
    assert site.requests == []
