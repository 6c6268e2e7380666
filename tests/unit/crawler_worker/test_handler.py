from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from crawler_worker.handler import CrawlHandler, open_handler
from crawler_worker.settings import CrawlerSettings, FirecrawlSettings, SiteSettings
from forebay.errors import ErrorCode
from forebay.outcomes import Failed, Outcome, Retry, Snooze, Succeeded
from forebay.requests import CrawlFormat, CrawlRequest
from tests.unit.crawler_worker.conftest import crawl_job
from tests.unit.http.web import Handler, Site, running_site

HTML = "text/html; charset=utf-8"


def page(
    text: str | bytes = "<title>A page</title><p>Words.</p>", status: int = 200, **headers: str
) -> Handler:
    body = text if isinstance(text, bytes) else text.encode()
    named = {"Content-Type": HTML} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=named)

    return answer


@pytest.fixture(autouse=True)
def no_rules(site: Site) -> None:
    site.serve("/robots.txt", page("", 404))


async def crawl(handler: CrawlHandler, url: str, **options: Any) -> Outcome:
    return await handler.handle(crawl_job(), CrawlRequest(url=url, **options))


def only_page(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Succeeded), outcome
    (found,) = json.loads(outcome.result)["pages"]
    assert isinstance(found, dict)
    return found


async def test_one_page_gives_what_was_asked_for_and_nothing_else(
    handler: CrawlHandler, site: Site
) -> None:
    site.serve("/a", page())
    outcome = await crawl(handler, f"{site.url}/a", formats=(CrawlFormat.MARKDOWN,))
    found = only_page(outcome)
    assert found["title"] == "A page"
    assert "Words." in found["markdown"]
    assert (found["status"], found["depth"], found["content_type"]) == (200, 0, "text/html")
    assert {"text", "html", "links", "metadata"}.isdisjoint(found)
    assert isinstance(outcome, Succeeded)
    assert outcome.call.provider == "fetch"
    assert outcome.call.http_status == 200


async def test_the_site_is_told_who_calls_and_for_which_attempt(
    handler: CrawlHandler, site: Site
) -> None:
    site.serve("/", page())
    await crawl(handler, f"{site.url}/", headers={"Accept-Language": "de", "X-Own": "1"})
    request = site.requests[-1]
    assert request.headers["User-Agent"].startswith("ForebayBot/")
    assert request.headers["X-Request-ID"] == "job_1.2"
    assert request.headers["Accept-Language"] == "de"
    assert request.headers["X-Own"] == "1"


async def test_redirects_are_followed_and_told(handler: CrawlHandler, site: Site) -> None:
    site.serve("/old", page("", 301, Location="/mid#x"))
    site.serve("/mid", page("", 308, Location="new?x=1"))
    site.serve("/new", page())
    found = only_page(await crawl(handler, f"{site.url}/old"))
    assert found["url"] == f"{site.url}/old"
    assert found["final_url"] == f"{site.url}/new?x=1"


@pytest.mark.parametrize("hops", [10, 11])
async def test_ten_redirects_are_followed_and_eleven_are_not(
    handler: CrawlHandler, site: Site, hops: int
) -> None:
    for n in range(hops):
        site.serve(f"/{n}", page("", 302, Location=f"/{n + 1}"))
    site.serve(f"/{hops}", page())
    outcome = await crawl(handler, f"{site.url}/0")
    assert isinstance(outcome, Succeeded if hops == 10 else Failed)
    if isinstance(outcome, Failed):
        assert "redirects over 10 times" in outcome.error.detail


async def test_a_circle_of_redirects_is_noticed_at_once(handler: CrawlHandler, site: Site) -> None:
    site.serve("/a", page("", 302, Location="/b"))
    site.serve("/b", page("", 302, Location="/a"))
    outcome = await crawl(handler, f"{site.url}/a")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED
    assert len([r for r in site.requests if r.path != "/robots.txt"]) == 2


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://localhost/",
        "//127.0.0.2/",
        "file:///etc/passwd",
        "http://kubernetes.default.svc/",
        "http://[broken/",
        "http://example.com:99999/",
    ],
)
async def test_a_redirect_to_a_forbidden_target_fails_for_good(
    handler: CrawlHandler, site: Site, target: str
) -> None:
    site.serve("/go", page("", 302, Location="/again"))
    site.serve("/again", page("", 302, Location=target))
    outcome = await crawl(handler, f"{site.url}/go")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ADDRESS_FORBIDDEN


async def test_secrets_of_the_caller_do_not_go_to_another_origin(site: Site) -> None:
    secrets = {"Authorization": "Bearer s3cret", "Cookie": "sid=1", "X-Api-Key": "k"}
    async with running_site() as other:
        other.serve("/robots.txt", page("", 404))
        other.serve("/there", page())
        site.serve("/robots.txt", page("", 404))
        site.serve("/here", page("", 302, Location=f"{other.url}/there"))
        site.serve("/go", page("", 302, Location="/here"))
        async with open_handler(
            CrawlerSettings(),
            SiteSettings(crawl_delay_s=0),
            FirecrawlSettings(),
            site.allow | other.allow,
        ) as handler:
            only_page(
                await crawl(handler, f"{site.url}/go", headers=secrets | {"Accept-Language": "de"})
            )
        (there,) = [r for r in other.requests if r.path == "/there"]
        assert there.headers["Accept-Language"] == "de"
        assert set(secrets).isdisjoint(there.headers)
        for own in site.requests:
            assert (own.path == "/robots.txt") == set(secrets).isdisjoint(own.headers)
        assert "X-Request-ID" not in there.headers


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, Failed, ErrorCode.PROVIDER_REJECTED),
        (403, Failed, ErrorCode.PROVIDER_REJECTED),
        (404, Failed, ErrorCode.PROVIDER_REJECTED),
        (410, Failed, ErrorCode.PROVIDER_REJECTED),
        (304, Failed, ErrorCode.PROVIDER_REJECTED),
        (408, Retry, ErrorCode.PROVIDER_TIMEOUT),
        (429, Retry, ErrorCode.PROVIDER_RATE_LIMITED),
        (500, Retry, ErrorCode.PROVIDER_ERROR),
        (503, Retry, ErrorCode.PROVIDER_ERROR),
    ],
)
async def test_a_sites_status_decides_whether_it_can_pass(
    handler: CrawlHandler, site: Site, status: int, kind: type, code: ErrorCode
) -> None:
    site.serve("/", page("", status, Retry_After="7"))
    outcome = await crawl(handler, f"{site.url}/")
    assert isinstance(outcome, kind)
    assert isinstance(outcome, Failed | Retry)
    assert outcome.error.code is code
    assert outcome.error.retry_after_s == (7.0 if kind is Retry else None)
    assert outcome.call is not None
    assert outcome.call.http_status == status


async def test_robots_denied_pages_are_not_fetched_unless_the_caller_insists(
    handler: CrawlHandler, site: Site
) -> None:
    site.serve("/robots.txt", page("User-agent: *\nDisallow: /private", Content_Type="text/plain"))
    site.serve("/private", page())
    site.serve("/go", page("", 302, Location="/private"))
    for path in ("/private", "/go"):
        outcome = await crawl(handler, site.url + path)
        assert isinstance(outcome, Failed)
        assert outcome.error.code is ErrorCode.ROBOTS_DENIED
    assert "/private" not in {request.path for request in site.requests}
    only_page(await crawl(handler, f"{site.url}/private", respect_robots=False))


async def test_a_site_whose_rules_cannot_be_read_is_tried_later(
    handler: CrawlHandler, site: Site
) -> None:
    site.serve("/robots.txt", page("", 503))
    site.serve("/", page())
    assert isinstance(await crawl(handler, f"{site.url}/"), Retry)
    assert {request.path for request in site.requests} == {"/robots.txt"}


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/json", "x" * 300])
async def test_what_cannot_be_read_is_said_so_and_not_downloaded(
    handler: CrawlHandler, site: Site, kind: str
) -> None:
    site.serve("/", page(b"x" * 100, Content_Type=kind))
    outcome = await crawl(handler, f"{site.url}/")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED
    assert "only HTML and plain text can be read" in outcome.error.detail
    assert len(outcome.error.detail) < 200


async def test_bytes_without_a_type_are_not_taken_for_text(
    handler: CrawlHandler, site: Site
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x7fEL\0")
        request.transport.close()
        return web.Response()

    site.serve("/", answer)
    outcome = await crawl(handler, f"{site.url}/")
    assert isinstance(outcome, Failed)
    assert "no text" in outcome.error.detail


async def test_a_page_over_the_limit_fails_on_the_wire_and_decoded(
    handler: CrawlHandler, site: Site
) -> None:
    site.serve("/long", page(b"x" * 3000))
    site.serve("/bomb", page(gzip.compress(b"x" * 10_000_000), Content_Encoding="gzip"))
    for path, where in (("/long", "wire"), ("/bomb", "decoded")):
        outcome = await crawl(
            handler, site.url + path, max_bytes=2000 if path == "/long" else 99_999
        )
        assert isinstance(outcome, Failed)
        assert outcome.error.code is ErrorCode.TOO_LARGE
        assert where in outcome.error.detail


async def test_an_endless_page_is_left_at_the_limit(handler: CrawlHandler, site: Site) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": HTML})
        await response.prepare(request)
        while True:
            await response.write(b"<p>again and again</p>" * 100)

    site.serve("/", endless)
    outcome = await crawl(handler, f"{site.url}/", max_bytes=100_000)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.TOO_LARGE


async def test_a_page_that_drips_ends_at_the_time_limit(site: Site) -> None:
    """Each wait is short, so only a bound on the whole ends it."""
    stop = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": HTML})
        await response.prepare(request)
        while not stop.is_set():
            await response.write(b"x")
            try:
                async with asyncio.timeout(0.01):
                    await stop.wait()
            except TimeoutError:
                continue
        return response

    site.serve("/", drip)
    async with open_handler(
        CrawlerSettings(), SiteSettings(page_timeout_s=0.2), FirecrawlSettings(), site.allow
    ) as handler:
        outcome = await crawl(handler, f"{site.url}/")
    stop.set()
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_TIMEOUT


async def test_a_job_for_a_busy_host_is_put_back_uncounted(site: Site) -> None:
    site.serve("/robots.txt", page("User-agent: *\nCrawl-delay: 20", Content_Type="text/plain"))
    site.serve("/", page())
    sites = SiteSettings(host_patience_s=1)
    async with open_handler(CrawlerSettings(), sites, FirecrawlSettings(), site.allow) as handler:
        assert isinstance(await crawl(handler, f"{site.url}/"), Succeeded)
        outcome = await crawl(handler, f"{site.url}/")
    assert isinstance(outcome, Snooze)
    assert outcome.for_s > 0


async def test_a_result_too_large_to_keep_fails(site: Site) -> None:
    site.serve("/", page("<p>" + "word " * 50_000))
    settings = CrawlerSettings(max_result_bytes=65_536)
    async with open_handler(settings, SiteSettings(), FirecrawlSettings(), site.allow) as handler:
        outcome = await crawl(handler, f"{site.url}/", formats=(CrawlFormat.HTML,))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.TOO_LARGE


async def test_an_unknown_provider_is_the_callers_to_change(
    handler: CrawlHandler, site: Site
) -> None:
    outcome = await handler.handle(crawl_job("nobody"), CrawlRequest(url=f"{site.url}/"))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED


async def test_the_loop_answers_while_a_large_page_is_taken_apart(
    handler: CrawlHandler, site: Site
) -> None:
    rows = "".join(f"<h2>Part {n}</h2><p>{'Some words of prose. ' * 20}</p>" for n in range(1500))
    site.serve("/", page(f"<title>Large</title><main>{rows}</main>"))

    async def turns() -> AsyncIterator[None]:
        while True:
            await asyncio.sleep(0)
            yield

    job = asyncio.create_task(crawl(handler, f"{site.url}/"))
    count = 0
    async for _ in turns():
        count += 1
        if job.done():
            break
    only_page(job.result())
    assert count > 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x") for name in ("Host", "host", "Content-Length", "Transfer-Encoding", "TE")),
        *((name, "x") for name in ("Connection", "Keep-Alive", "Upgrade", "Trailer", "Expect")),
        *((name, "x") for name in ("Proxy-Authorization", "Proxy-Connection", "Accept-Encoding")),
        ("Bad Name", "x"),
        ("", "x"),
        ("X:Y", "x"),
        ("Näme", "x"),
        ("X-Split", "a\r\nHost: evil"),
        ("X-Nul", "a\0b"),
        ("X-Wide", "日本"),
        ("X-Latin", "caf\u00e9"),
        ("X-Long", "x" * 9000),
    ],
)
def test_a_header_that_is_not_the_callers_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        CrawlRequest(url="https://example.com/", headers={name: value})


def test_ordinary_headers_are_taken() -> None:
    headers = {
        "Accept-Language": "de",
        "Authorization": "Bearer x",
        "Cookie": "a=b",
        "User-Agent": "me",
    }
    assert CrawlRequest(url="https://example.com/", headers=headers).headers == headers
