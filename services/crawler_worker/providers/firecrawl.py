"""The provider `firecrawl`: a crawler API in the shape of Firecrawl's `POST /v1/scrape`.

One page is one call. Links are followed by us, not by its crawl endpoint, so that `follow`, the
limits and the result are the same whoever fetches. robots.txt and the site's pace are the API's
own business: `respect_robots` has no effect here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from crawler_worker.exchange import SITE, site_refusal
from crawler_worker.extract import MAX_LINKS, extract_html
from crawler_worker.links import Link, host_of, read_link
from crawler_worker.results import CrawledPage
from crawler_worker.settings import FIRECRAWL_CLOUD, FirecrawlSettings
from crawler_worker.visit import (
    PageUnreadable,
    Read,
    Reading,
    Visit,
    off_host,
    unreadable,
)
from forebay.errors import Unreadable
from forebay.http import (
    HTTP_FAILURES,
    REQUEST_ID_HEADER,
    TargetGate,
    outcome_of_failure,
    read_limited,
)
from forebay.outcomes import Call, refusal
from forebay.requests import CrawlFormat, CrawlRequest
from forebay.retry import parse_retry_after

PROVIDER = "firecrawl"
_ANSWER_FACTOR = 4
"""An answer holds the page up to this many times: as markdown, as HTML, escaped in JSON."""


class _Metadata(BaseModel):
    title: str | None = None
    status: int = Field(200, alias="statusCode")
    url: str | None = None
    source_url: str | None = Field(None, alias="sourceURL")
    content_type: str = Field("text/html", alias="contentType")
    error: str | None = None
    model_config = {"extra": "allow"}


class _Data(BaseModel):
    markdown: str | None = None
    html: str | None = None
    links: list[str] = []
    metadata: _Metadata = _Metadata.model_validate({})


class _Answer(BaseModel):
    success: bool
    data: _Data


class FirecrawlReader:
    """Reads pages through a crawler API.

    Args:
        gate: judges a target before it is handed on; what the API then connects to, and where it
            is redirected to, the API must judge itself.
        executor: where its answers are taken apart.
        timeout_s: given to the API as the bound of one page.
        now: the time, for `fetched_at` and dates in `Retry-After`.
    """

    name = PROVIDER

    def __init__(
        self,
        client: httpx.AsyncClient,
        settings: FirecrawlSettings,
        gate: TargetGate,
        executor: Executor,
        *,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._settings = settings
        self._base = settings.url.rstrip("/")
        self._gate = gate
        self._executor = executor
        self._timeout_s = timeout_s
        self._now = now

    @property
    def missing_setting(self) -> str | None:
        """Firecrawl's own service needs a key; an installation of one's own may not.

        So no job can choose this provider where the operator named neither.
        """
        if self._settings.api_key is None and self._base == FIRECRAWL_CLOUD:
            return "FOREBAY_CRAWLER_FIRECRAWL_API_KEY"
        return None

    async def read(self, visit: Visit) -> Read:
        """Have the page fetched."""
        try:
            await self._gate.check(visit.url)
        except HTTP_FAILURES as error:
            return replace(outcome_of_failure(error, SITE), call=Call(PROVIDER))
        try:
            return await self._scrape(visit)
        except PageUnreadable as why:
            return unreadable(why, PROVIDER)
        except HTTP_FAILURES as error:
            return outcome_of_failure(error, PROVIDER)

    async def _scrape(self, visit: Visit) -> Read:
        headers = {REQUEST_ID_HEADER: visit.call_id}
        if self._settings.api_key is not None:
            headers["Authorization"] = f"Bearer {self._settings.api_key.get_secret_value()}"
        async with self._client.stream(
            "POST",
            f"{self._base}/v1/scrape",
            json=_body(visit, self._timeout_s),
            headers=headers,
        ) as response:
            if response.status_code != 200:
                wait_s = parse_retry_after(response.headers.get("retry-after"), self._now())
                return refusal(Call(PROVIDER, response.status_code), wait_s)
            body = await read_limited(response, visit.request.max_bytes * _ANSWER_FACTOR)
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, _read, visit, body, self._now()
        )


def _read(visit: Visit, body: bytes, now: datetime) -> Read:
    """Take an answer apart; raises `Unreadable` and `PageUnreadable`."""
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError:
        raise Unreadable("its answer is not what its API documents") from None
    if not answer.success:
        raise Unreadable("its answer says that the page could not be fetched")
    data = answer.data
    # The API answers 200 and tells the site's own status in the metadata.
    if data.metadata.status >= 400:
        return site_refusal(Call(PROVIDER, data.metadata.status))
    final_url = data.metadata.url or data.metadata.source_url or visit.url
    if visit.hosts is not None and host_of(final_url) not in visit.hosts:
        return off_host(PROVIDER)
    said = data.links[:MAX_LINKS]
    links = tuple(dict.fromkeys(link for url in said if (link := read_link(url))))
    return Reading.of(_page(visit, data, final_url, links, now), links)


def _body(visit: Visit, timeout_s: float) -> dict[str, Any]:
    request = visit.request
    formats = {"links"}
    if CrawlFormat.MARKDOWN in request.formats:
        formats.add("markdown")
    if CrawlFormat.HTML in request.formats or CrawlFormat.TEXT in request.formats:
        formats.add("html")
    body: dict[str, Any] = {
        "url": visit.url,
        "formats": sorted(formats),
        "timeout": int(timeout_s * 1000),
    }
    if request.headers and visit.depth == 0:
        body["headers"] = dict(request.headers)
    return body


def _page(
    visit: Visit, data: _Data, final_url: str, links: tuple[Link, ...], now: datetime
) -> CrawledPage:
    request: CrawlRequest = visit.request
    html = data.html or ""
    text = None
    if CrawlFormat.TEXT in request.formats:
        text = extract_html(html, final_url, frozenset({CrawlFormat.TEXT})).text
    said = data.metadata.model_dump(by_alias=True, exclude_none=True)
    return CrawledPage(
        url=visit.url,
        final_url=final_url,
        status=data.metadata.status,
        depth=visit.depth,
        title=data.metadata.title or "",
        content_type=data.metadata.content_type.partition(";")[0].strip().lower(),
        markdown=(data.markdown or "") if CrawlFormat.MARKDOWN in request.formats else None,
        text=text,
        html=html if CrawlFormat.HTML in request.formats else None,
        links=(tuple(link.url for link in links) if CrawlFormat.LINKS in request.formats else None),
        metadata=(
            {key: value for key, value in said.items() if isinstance(value, str)}
            if CrawlFormat.METADATA in request.formats
            else None
        ),
        bytes=len(html or data.markdown or ""),
        fetched_at=now,
    )
