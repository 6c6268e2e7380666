"""What a site's robots.txt allows us (RFC 9309), remembered per origin.

An answer of 4xx means there are no rules; 5xx, 429 and no answer at all mean that the rules cannot
be known and nothing may be fetched now (2.3.1.4), which is a failure that can pass.

Such a failure is remembered for a moment, so that a site in trouble is not asked by every job. Each
real try counts once for each job that waited for it, whoever made it: so a job ends when its site
does not come back. To a job that came later the failure is old news: no call is made for it, and it
is put back uncounted until the site is asked again. So one bad moment of a site fails nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx
from protego import Protego

from crawler_worker.exchange import SITE, Answer, get
from forebay.errors import ErrorCode, JobError
from forebay.http import HTTP_FAILURES, outcome_of_failure, read_head
from forebay.outcomes import Call, Failed, Retry, Snooze

MAX_ROBOTS_BYTES = 512 * 1024
"""RFC 9309, 2.5: at least 500 KiB must be read; what is beyond is ignored."""
MAX_REDIRECTS = 5
"""RFC 9309, 2.3.1.2: at least five are followed; beyond, the file counts as absent."""
_UNREACHABLE_TTL_S = 30.0
"""Short: a site that was down for a moment is asked again soon, though not by every job."""
_SPREAD_S = 5.0
"""Those who wait for the next try come back over so many seconds, not all in one moment."""
_MAX_ORIGINS = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What one origin allows us; `failure` says why that cannot be known now."""

    agent: str
    parsed: Protego | None = None
    failure: Retry | Failed | Snooze | None = None

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
    known_at: float = 0.0
    until: float = 0.0


class Robots:
    """Fetches and remembers the rules of origins.

    Args:
        user_agent: its product token, before the slash, is what rules are looked up for.
        ttl_s: how long rules are remembered.
        timeout_s: bound of one request.
        clock: a monotonic clock, in seconds.
        chance: uniform in [0, 1), the jitter.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        user_agent: str,
        *,
        ttl_s: float,
        timeout_s: float,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._agent = user_agent.partition("/")[0].split()[0]
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._chance = chance
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def rules(self, url: httpx.URL, waited_s: float = 0.0) -> Rules:
        """The rules of the URL's origin; many who ask at once make one request.

        Args:
            url: any of the origin.
            waited_s: for how long the job has been waiting to ask. What failed in this time counts
                for it; what failed before is a `Snooze`.
        """
        since = self._clock() - waited_s
        origin = str(url.copy_with(raw_path=b"/robots.txt", fragment=None))
        entry = self._entries.setdefault(origin, _Entry(asyncio.Lock()))
        self._entries.move_to_end(origin)
        if len(self._entries) > _MAX_ORIGINS:
            self._entries.popitem(last=False)
        async with entry.lock:
            if entry.rules is None or self._clock() >= entry.until:
                rules = await self._fetch(httpx.URL(origin))
                ttl_s = _UNREACHABLE_TTL_S if rules.failure else self._ttl_s
                entry.rules, entry.known_at = rules, self._clock()
                entry.until = entry.known_at + min(ttl_s, self._ttl_s)
            return self._told(entry, entry.rules, since)

    def _told(self, entry: _Entry, rules: Rules, since: float) -> Rules:
        """The rules as one caller hears them, who has been waiting since then."""
        failure = rules.failure
        if not isinstance(failure, Retry):
            return rules
        left_s = max(entry.until - self._clock(), 0.0)
        if entry.known_at < since:
            why = "the site's robots.txt could not be read a moment ago"
            return replace(rules, failure=Snooze(left_s + self._chance() * _SPREAD_S, why))
        # Any sooner, the job would only hear of the same failure again.
        error = replace(failure.error, retry_after_s=left_s or None)
        return replace(rules, failure=replace(failure, error=error))

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
