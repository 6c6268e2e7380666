"""What a site's robots.txt allows us (RFC 9309), remembered per origin.

An answer of 4xx means there are no rules; 5xx, 429 and no answer at all mean that the rules cannot
be known and nothing may be fetched now (2.3.1.4), which is a failure that can pass.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
from protego import Protego

from crawler_worker.exchange import SITE, Answer, get
from forebay.errors import ErrorCode, JobError
from forebay.http import HTTP_FAILURES, outcome_of_failure, read_head
from forebay.outcomes import Call, Failed, Retry

MAX_ROBOTS_BYTES = 512 * 1024
"""RFC 9309, 2.5: at least 500 KiB must be read; what is beyond is ignored."""
MAX_REDIRECTS = 5
"""RFC 9309, 2.3.1.2: at least five are followed; beyond, the file counts as absent."""
_UNREACHABLE_TTL_S = 30.0
"""Short: a site that was down for a moment is asked again soon, though not by every job."""
_MAX_ORIGINS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What one origin allows us; `failure` says why that cannot be known now."""

    agent: str
    parsed: Protego | None = None
    failure: Retry | Failed | None = None

    def allow(self, url: httpx.URL) -> bool:
        """Whether the URL may be fetched."""
        return self.parsed is None or self.parsed.can_fetch(str(url), self.agent)

    @property
    def delay_s(self) -> float:
        """The site's `Crawl-delay`, in seconds; 0 when it has none."""
        delay = None if self.parsed is None else self.parsed.crawl_delay(self.agent)
        return delay if delay is not None and delay > 0 else 0.0


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock
    rules: Rules | None = None
    until: float = 0.0


class Robots:
    """Fetches and remembers the rules of origins.

    Args:
        user_agent: its product token, before the slash, is what rules are looked up for.
        ttl_s: how long rules are remembered.
        timeout_s: bound of one request.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        user_agent: str,
        *,
        ttl_s: float,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._agent = user_agent.partition("/")[0].split()[0]
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def rules(self, url: httpx.URL) -> Rules:
        """The rules of the URL's origin; many who ask at once make one request."""
        origin = str(url.copy_with(raw_path=b"/robots.txt", fragment=None))
        entry = self._entries.setdefault(origin, _Entry(asyncio.Lock()))
        self._entries.move_to_end(origin)
        if len(self._entries) > _MAX_ORIGINS:
            self._entries.popitem(last=False)
        async with entry.lock:
            if entry.rules is None or self._clock() >= entry.until:
                rules = await self._fetch(httpx.URL(origin))
                ttl_s = _UNREACHABLE_TTL_S if rules.failure else self._ttl_s
                entry.rules, entry.until = rules, self._clock() + min(ttl_s, self._ttl_s)
            return entry.rules

    async def _fetch(self, url: httpx.URL) -> Rules:
        try:
            answer = await self._final_answer(url)
        except HTTP_FAILURES as error:
            return Rules(self._agent, failure=_about_robots(outcome_of_failure(error, SITE)))
        if answer is None or (400 <= answer.status < 500 and answer.status != 429):
            return Rules(self._agent)
        if 200 <= answer.status < 300:
            text = answer.body.decode("utf-8-sig", errors="replace")
            # Half a megabyte of rules takes a noticeable part of a second.
            return Rules(self._agent, await asyncio.to_thread(Protego.parse, text))
        detail = f"The site's robots.txt answered {answer.status}; without it nothing is fetched."
        call = Call("fetch", answer.status)
        failure = Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, retryable=True), call)
        return Rules(self._agent, failure=failure)

    async def _final_answer(self, url: httpx.URL) -> Answer | None:
        """The answer after redirects, on other hosts too; None when there are too many."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = await get(
                self._client,
                url,
                # Not compressed, so that the first half megabyte is a half megabyte of rules.
                headers={"Accept": "text/plain, */*;q=0.1", "Accept-Encoding": "identity"},
                timeout_s=self._timeout_s,
                read=lambda response: read_head(response, MAX_ROBOTS_BYTES),
            )
            if not answer.is_redirect:
                return answer
            url = answer.target
        return None


def _about_robots(outcome: Retry | Failed) -> Retry | Failed:
    error = outcome.error
    if error.code is ErrorCode.ADDRESS_FORBIDDEN:
        return outcome
    detail = f"{error.detail} That was its robots.txt, without which nothing is fetched."
    return replace(outcome, error=replace(error, detail=detail), call=Call("fetch"))
