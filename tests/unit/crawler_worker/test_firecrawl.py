from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from crawler_worker.extract import MAX_LINKS
from crawler_worker.handler import CrawlHandler, open_handler
from crawler_worker.settings import CrawlerSettings, CrawlProvider, FirecrawlSettings, SiteSettings
from forebay.errors import ErrorCode
from forebay.outcomes import Failed, Retry, Succeeded
from forebay.requests import CrawlFormat, CrawlRequest, Follow
from forebay.settings import load
from loadtest.providers import Providers
from tests.unit.crawler_worker.conftest import crawl_job
from tests.unit.http.web import Handler, Names, Site

SETTINGS = CrawlerSettings(provider=CrawlProvider.FIRECRAWL)


def names(**more: list[list[str]]) -> Names:
    return Names(example_com=[["93.184.215.14"]], **more)


def scraped(**data: Any) -> Handler:
    """An answer in the API's shape."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"success": True, "data": data})

    return answer


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[Providers]:
    async with Providers(profile="quiet", seed=1) as running:
        yield running


@pytest.fixture
async def firecrawl(world: Providers) -> AsyncIterator[CrawlHandler]:
    reach = FirecrawlSettings(url=f"{world.providers_url}/firecrawl", api_key=SecretStr("key"))
    async with open_handler(SETTINGS, SiteSettings(), reach, frozenset(), names()) as opened:
        yield opened


@pytest.fixture
async def api(site: Site) -> AsyncIterator[CrawlHandler]:
    """The handler with the test's own site as its crawler API."""
    reach = FirecrawlSettings(url=f"{site.url}/", api_key=SecretStr("s3cret"))
    resolver = names(inner_example_com=[["93.184.215.14", "10.0.0.1"]])
    async with open_handler(SETTINGS, SiteSettings(), reach, frozenset(), resolver) as opened:
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


@pytest.mark.parametrize(
    ("host", "code", "said"),
    [
        ("inner.example.com", ErrorCode.ADDRESS_FORBIDDEN, "The target is a private address"),
        ("nowhere.example.com", ErrorCode.PROVIDER_ERROR, "The site: its name could not be"),
    ],
)
async def test_a_name_that_may_not_be_called_is_not_handed_on(
    api: CrawlHandler, site: Site, host: str, code: ErrorCode, said: str
) -> None:
    outcome = await api.handle(crawl_job(), CrawlRequest(url=f"https://{host}/"))
    assert isinstance(outcome, Failed | Retry)
    assert outcome.error.code is code
    assert outcome.error.detail.startswith(said)
    assert site.requests == []


async def test_a_job_cannot_choose_a_crawler_api_that_the_operator_did_not(
    handler: CrawlHandler,
) -> None:
    request = CrawlRequest(url="https://example.com/")
    outcome = await handler.handle(crawl_job("firecrawl"), request)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH
    assert "FOREBAY_CRAWLER_FIRECRAWL_API_KEY" in outcome.error.detail


async def test_the_cloud_is_the_cloud_however_its_url_is_written() -> None:
    reach = FirecrawlSettings(url="https://api.firecrawl.dev/")
    async with open_handler(SETTINGS, SiteSettings(), reach, frozenset(), names()) as handler:
        outcome = await handler.handle(crawl_job(), CrawlRequest(url="https://example.com/"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH


def test_its_key_and_url_are_what_every_providers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_CRAWLER_FIRECRAWL_API_KEY", "s3cret\n")
    key = load(FirecrawlSettings).api_key
    assert key is not None
    assert key.get_secret_value() == "s3cret"
    with pytest.raises(ValidationError):
        FirecrawlSettings(url="https://user:pw@api.example.com")


async def test_the_links_of_a_page_are_bounded(api: CrawlHandler, site: Site) -> None:
    site.serve("/v1/scrape", scraped(links=[f"https://e.com/{n}" for n in range(MAX_LINKS + 5)]))
    request = CrawlRequest(url="https://example.com/", formats=(CrawlFormat.LINKS,))
    outcome = await api.handle(crawl_job(), request)
    assert isinstance(outcome, Succeeded)
    assert len(json.loads(outcome.result)["pages"][0]["links"]) == MAX_LINKS


async def test_the_loop_answers_while_a_large_answer_is_taken_apart(
    api: CrawlHandler, site: Site
) -> None:
    rows = "".join(f"<h2>Part {n}</h2><p>{'Some words of prose. ' * 20}</p>" for n in range(1500))
    site.serve("/v1/scrape", scraped(html=f"<main>{rows}</main>"))
    request = CrawlRequest(url="https://example.com/", formats=(CrawlFormat.TEXT,))
    job = asyncio.create_task(api.handle(crawl_job(), request))
    turns = 0
    while not job.done():
        await asyncio.sleep(0)
        turns += 1
    assert isinstance(job.result(), Succeeded)
    assert turns > 1000


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
    api: CrawlHandler, site: Site, status: int, body: str, code: ErrorCode
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers={"Retry-After": "3"})

    site.serve("/v1/scrape", answer)
    outcome = await api.handle(crawl_job(), CrawlRequest(url="https://example.com/"))
    assert isinstance(outcome, Failed | Retry)
    assert outcome.error.code is code
    assert "s3cret" not in repr(outcome)
    (request,) = site.requests
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.headers["X-Request-ID"] == "job_1.2"
