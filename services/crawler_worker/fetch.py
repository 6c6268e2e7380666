"""One page over HTTP: redirects judged one by one, robots.txt asked, turns taken, all bounded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import httpx

from crawler_worker.exchange import SITE, Answer, get, site_refusal
from crawler_worker.extract import HTML_TYPES, TEXT_TYPES, media_type
from crawler_worker.politeness import HostBusy, Politeness
from crawler_worker.robots import Robots
from crawler_worker.settings import SiteSettings
from crawler_worker.visit import PageUnreadable, Visit, off_host, unreadable
from forebay.errors import ErrorCode, JobError
from forebay.http import HTTP_FAILURES, REQUEST_ID_HEADER, outcome_of_failure, read_limited
from forebay.outcomes import Call, Failed, Retry, Snooze
from forebay.retry import parse_retry_after

PROVIDER = "fetch"
MAX_REDIRECTS = 10
"""As browsers and crawlers do; RFC 9110, 15.4 only asks that loops be noticed."""
_ACCEPT = "text/html,application/xhtml+xml,text/plain;q=0.9,text/markdown;q=0.9,*/*;q=0.1"
_HARMLESS = frozenset({"accept", "accept-language", "user-agent", "cache-control", "dnt"}) | {
    REQUEST_ID_HEADER.lower()
}
"""The caller's headers that may go to another origin; any other may hold a secret for the first."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SNIFFED = 1024
_TOKEN = re.compile(r"[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}")


@dataclass(slots=True)
class _Walk:
    """Where a visit stands between redirects."""

    visit: Visit
    url: httpx.URL
    headers: httpx.Headers
    hops: int = 0
    seen: set[str] = field(default_factory=set)


class Fetcher:
    """Fetches pages.

    Args:
        identify: send `X-Request-ID` to the sites.
        now: the time, for a `Retry-After` that is a date.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        robots: Robots,
        politeness: Politeness,
        settings: SiteSettings,
        *,
        identify: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._robots = robots
        self._politeness = politeness
        self._settings = settings
        self._identify = identify
        self._now = now

    async def fetch(self, visit: Visit) -> Answer | Retry | Failed | Snooze:
        """The page's final answer, a success; or why there is none."""
        try:
            walk = _Walk(visit, httpx.URL(visit.url), self._headers(visit))
            while True:
                answer = await self._step(walk)
                if not isinstance(answer, Answer):
                    return answer
                if not answer.is_redirect:
                    return self._judge_status(answer)
                _advance(walk, answer.target)
        except PageUnreadable as why:
            return unreadable(why, PROVIDER)
        except HostBusy:
            return Snooze(self._settings.host_patience_s, "the host is busy with other jobs")
        except HTTP_FAILURES as error:
            return replace(outcome_of_failure(error, SITE), call=Call(PROVIDER))

    async def _step(self, walk: _Walk) -> Answer | Retry | Failed | Snooze:
        """One request of the walk, if it may be made."""
        visit = walk.visit
        if str(walk.url) in walk.seen or walk.hops > MAX_REDIRECTS:
            what = "in a circle" if str(walk.url) in walk.seen else f"over {MAX_REDIRECTS} times"
            detail = f"The page redirects {what}; change the URL."
            return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), Call(PROVIDER))
        walk.seen.add(str(walk.url))
        if visit.hosts is not None and walk.url.host not in visit.hosts:
            return off_host(PROVIDER)
        # Only the very first request of a job can be put back uncounted.
        first = visit.depth + walk.hops == 0
        delay_s = self._settings.crawl_delay_s
        if visit.request.respect_robots:
            rules = await self._robots.rules(walk.url, visit.waited_s if first else math.inf)
            if rules.failure is not None:
                return rules.failure
            if not rules.allow(walk.url):
                detail = "The site's robots.txt does not allow this page to us."
                return Failed(JobError(ErrorCode.ROBOTS_DENIED, detail), Call(PROVIDER))
            delay_s = max(delay_s, min(rules.delay_s, self._settings.max_crawl_delay_s))
        patience_s = self._settings.host_patience_s if first else None
        async with self._politeness.turn(walk.url.host, delay_s, patience_s):
            return await get(
                self._client,
                walk.url,
                headers=walk.headers,
                timeout_s=self._settings.page_timeout_s,
                read=lambda response: _read_page(response, visit.request.max_bytes),
            )

    def _headers(self, visit: Visit) -> httpx.Headers:
        headers = httpx.Headers({"Accept": _ACCEPT})
        headers.update(visit.request.headers)
        if _origin(httpx.URL(visit.url)) != _origin(httpx.URL(visit.request.url)):
            headers = _without_secrets(headers)
        if self._identify:
            headers[REQUEST_ID_HEADER] = visit.call_id
        return headers

    def _judge_status(self, answer: Answer) -> Answer | Retry | Failed:
        if 200 <= answer.status < 300:
            return answer
        wait_s = parse_retry_after(answer.headers.get("retry-after"), self._now())
        return site_refusal(Call(PROVIDER, answer.status), wait_s)


def _advance(walk: _Walk, target: httpx.URL) -> None:
    target = target.copy_with(fragment=None)
    if _origin(target) != _origin(walk.url):
        walk.headers = _without_secrets(walk.headers)
    walk.url = target
    walk.hops += 1


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


def _without_secrets(headers: httpx.Headers) -> httpx.Headers:
    return httpx.Headers({k: v for k, v in headers.items() if k.lower() in _HARMLESS})


async def _read_page(response: httpx.Response, max_bytes: int) -> bytes:
    kind, _ = media_type(response.headers.get("content-type", ""))
    if kind and kind not in HTML_TYPES | TEXT_TYPES:
        said = kind if _TOKEN.fullmatch(kind) else "of an unreadable type"
        raise PageUnreadable(f"The page is {said}; only HTML and plain text can be read.")
    body = await read_limited(response, max_bytes)
    if not kind and b"\0" in body[:_SNIFFED] and not body.startswith(_UTF16):
        raise PageUnreadable("The page does not say what it is and is no text.")
    return body
