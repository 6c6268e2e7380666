from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from pydantic import SecretStr

from crawler_worker.handler import CrawlHandler, open_handler
from crawler_worker.settings import CrawlerSettings, CrawlProvider, FirecrawlSettings, SiteSettings
from forebay.errors import ErrorCode
from forebay.outcomes import Failed, Retry, Succeeded
from forebay.requests import CrawlFormat, CrawlRequest, Follow
from loadtest.providers import Providers
from tests.unit.crawler_worker.conftest import crawl_job
from tests.unit.http.web import Site

SETTINGS = CrawlerSettings(provider=CrawlProvider.FIRECRAWL)


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[Providers]:
    async with Providers(profile="quiet", seed=1) as running:
        yield running


@pytest.fixture
async def firecrawl(world: Providers) -> AsyncIterator[CrawlHandler]:
    reach = FirecrawlSettings(url=f"{world.providers_url}/firecrawl", api_key=SecretStr("key"))
    async with open_handler(SETTINGS, SiteSettings(), reach, frozenset()) as opened:
        yield opened


async def test_every_format_comes_from_the_crawler_api(firecrawl: CrawlHandler) -> None:
    request = CrawlRequest(url="https://example.com/pages/1", formats=tuple(CrawlFormat))
    outcome = await firecrawl.handle(crawl_job(), request)
    assert isinstance(outcome, Succeeded), outcome
    assert outcome.call.provider == "firecrawl"
    (page,) = json.loads(outcome.result)["pages"]
    assert page["markdown"].startswith("# ")
    assert page["text"]
    assert page["html"].lower().startswith("<!doctype html")
    assert page["links"][0].startswith("https://example.com/")
    assert page["metadata"]["description"]
    assert page["title"]
    assert page["status"] == 200


async def test_links_are_followed_page_by_page(firecrawl: CrawlHandler) -> None:
    follow = Follow(max_depth=2, max_pages=6)
    request = CrawlRequest(url="https://example.com/", follow=follow)
    outcome = await firecrawl.handle(crawl_job(), request)
    assert isinstance(outcome, Succeeded)
    result = json.loads(outcome.result)
    assert result["pages_fetched"] == 6
    assert outcome.usage.requests == 6
    assert "links" not in result["pages"][0]


async def test_the_sites_own_status_decides(firecrawl: CrawlHandler) -> None:
    gone = CrawlRequest(url="https://example.com/status/404")
    outcome = await firecrawl.handle(crawl_job(), gone)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED
    busy = CrawlRequest(url="https://example.com/status/503")
    assert isinstance(await firecrawl.handle(crawl_job(), busy), Retry)


async def test_a_forbidden_target_is_not_handed_on(
    firecrawl: CrawlHandler, world: Providers
) -> None:
    before = len(world.calls.calls())
    outcome = await firecrawl.handle(crawl_job(), CrawlRequest(url="http://169.254.169.254/"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ADDRESS_FORBIDDEN
    assert len(world.calls.calls()) == before


async def test_without_its_key_the_cloud_is_not_called_and_the_setting_is_named() -> None:
    async with open_handler(SETTINGS, SiteSettings(), FirecrawlSettings(), frozenset()) as handler:
        outcome = await handler.handle(crawl_job(), CrawlRequest(url="https://example.com/"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH
    assert "FOREBAY_CRAWLER_FIRECRAWL_API_KEY" in outcome.error.detail


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, "not json", ErrorCode.PROVIDER_ERROR),
        (200, '{"success": false, "error": "x"}', ErrorCode.PROVIDER_ERROR),
        (200, '{"success": true}', ErrorCode.PROVIDER_ERROR),
        (401, "{}", ErrorCode.PROVIDER_AUTH),
        (402, "{}", ErrorCode.PROVIDER_REJECTED),
        (429, "{}", ErrorCode.PROVIDER_RATE_LIMITED),
        (500, "oops", ErrorCode.PROVIDER_ERROR),
    ],
)
async def test_a_crawler_api_that_misbehaves_is_told_by_a_value(
    site: Site, status: int, body: str, code: ErrorCode
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"Retry-After": "3"})

    site.serve("/v1/scrape", answer)
    reach = FirecrawlSettings(url=site.url, api_key=SecretStr("s3cret"))
    async with open_handler(SETTINGS, SiteSettings(), reach, frozenset()) as handler:
        outcome = await handler.handle(crawl_job(), CrawlRequest(url="https://example.com/"))
    assert isinstance(outcome, Failed | Retry)
    assert outcome.error.code is code
    assert "s3cret" not in repr(outcome)
    (request,) = site.requests
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.headers["X-Request-ID"] == "job_1.2"
