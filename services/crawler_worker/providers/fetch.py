"""The provider `fetch`: this process fetches the page itself and reads it beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime

from crawler_worker.exchange import Answer
from crawler_worker.extract import Extracted, extract, media_type
from crawler_worker.fetch import Fetcher
from crawler_worker.results import CrawledPage
from crawler_worker.visit import PageUnreadable, Read, Reading, Visit, unreadable
from forebay.requests import CrawlFormat


class FetchReader:
    """Reads pages from the web.

    Args:
        executor: where pages are taken apart; its size bounds the processor work.
        now: the time, for `fetched_at`.
    """

    name = "fetch"
    missing_setting: str | None = None

    def __init__(self, fetcher: Fetcher, executor: Executor, now: Callable[[], datetime]) -> None:
        self._fetcher = fetcher
        self._executor = executor
        self._now = now

    async def read(self, visit: Visit) -> Read:
        """Fetch the page and make what was asked for of it."""
        answer = await self._fetcher.fetch(visit)
        if not isinstance(answer, Answer):
            return answer
        fetched_at = self._now()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._executor, _read, visit, answer, fetched_at
            )
        except PageUnreadable as why:
            return unreadable(why, self.name)


def _read(visit: Visit, answer: Answer, fetched_at: datetime) -> Reading:
    """Take the page apart; raises `PageUnreadable`."""
    said = answer.headers.get("content-type", "")
    found = extract(answer.body, said, str(answer.url), visit.request.formats)
    return Reading.of(_page(visit, answer, found, fetched_at), found.links)


def _page(visit: Visit, answer: Answer, found: Extracted, fetched_at: datetime) -> CrawledPage:
    return CrawledPage(
        url=visit.url,
        final_url=str(answer.url),
        status=answer.status,
        depth=visit.depth,
        title=found.title,
        content_type=media_type(answer.headers.get("content-type", ""))[0],
        markdown=found.markdown,
        text=found.text,
        html=found.html,
        links=(
            tuple(link.url for link in found.links)
            if CrawlFormat.LINKS in visit.request.formats
            else None
        ),
        metadata=found.metadata,
        bytes=len(answer.body),
        fetched_at=fetched_at,
    )
