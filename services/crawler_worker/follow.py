"""A crawl: the first page, and as many of the pages it leads to as were asked for.

Theory of operation. Links wait in a queue in the order they were met, which makes the crawl breadth
first; a few visits run at once. The first page decides the job: if it cannot be read, that is the
job's outcome. A later page that cannot be read is an entry of `skipped`. Three bounds end a crawl
early and keep what there is: pages, time, and the size of the result.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from crawler_worker.links import host_of, normalize
from crawler_worker.results import MAX_SKIPPED, CrawledPage, CrawlResult, SkippedPage
from crawler_worker.visit import PageReader, Read, Reading, Visit
from forebay.errors import ErrorCode, JobError, TooLarge
from forebay.outcomes import Failed, Retry, Snooze
from forebay.requests import CrawlRequest
from forebay.tasks import end as end_tasks

_MAX_FAILURES_PER_PAGE = 10
"""A site of dead links ends the crawl after `max_pages` times this many visits."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a crawl may take.

    Attributes:
        width: visits at once.
        time_s: after this many seconds no further page is awaited.
        result_bytes: size of the result.
    """

    width: int
    time_s: float
    result_bytes: int


@dataclass(slots=True)
class _Progress:
    """A crawl on its way."""

    waiting: deque[tuple[int, str, int]] = field(default_factory=deque)
    """(order, url, depth)"""
    known: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    pages: list[tuple[int, CrawledPage]] = field(default_factory=list)
    skipped: list[SkippedPage] = field(default_factory=list)
    skipped_total: int = 0
    bytes: int = 0
    order: int = 0


class Crawl:
    """Reads a first page and follows its links.

    Args:
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, reader: PageReader, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._bounds = bounds
        self._clock = clock

    async def run(
        self, request: CrawlRequest, call_id: str, waited_s: float = 0.0
    ) -> CrawlResult | Retry | Failed | Snooze:
        """The whole crawl, or the outcome of its first page when that cannot be read.

        Args:
            request: what is asked for.
            call_id: the job's attempt.
            waited_s: since the attempt before this one ended, in seconds; 0 in the first.
        """
        end = self._clock() + self._bounds.time_s
        first = await self._reader.read(Visit(request.url, 0, request, call_id, waited_s=waited_s))
        if not isinstance(first, Reading):
            return first
        progress = _Progress()
        if self._note_page(progress, 0, first) > self._bounds.result_bytes:
            limit = TooLarge("decoded", self._bounds.result_bytes)
            detail = f"The result would be too large: {limit}; ask for fewer formats."
            return Failed(JobError(ErrorCode.TOO_LARGE, detail))
        stopped_by = None
        if request.follow is not None:
            progress.known.add(normalize(request.url) or request.url)
            hosts = frozenset({host_of(request.url), host_of(first.page.final_url)})
            scope = _Scope(request, call_id, hosts if request.follow.same_host else None)
            scope.note_links(progress, first)
            stopped_by = await self._follow(progress, scope, end)
        return _result(progress, stopped_by)

    async def _follow(
        self, progress: _Progress, scope: _Scope, end: float
    ) -> Literal["max_pages", "time", "result_size"] | None:
        running: dict[asyncio.Task[Read], tuple[int, Visit]] = {}
        try:
            while True:
                stopped_by = self._reached(progress, scope, end)
                if stopped_by == "result_size":
                    return stopped_by
                if stopped_by == "time":
                    return stopped_by if progress.waiting or running else None
                self._start(progress, scope, running)
                if not running:
                    return stopped_by if progress.waiting else None
                left = max(end - self._clock(), 0.0)
                done, _ = await asyncio.wait(
                    running, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    order, visit = running.pop(task)
                    self._note(progress, scope, order, visit, task.result())
        finally:
            await end_tasks(*running)

    def _reached(
        self, progress: _Progress, scope: _Scope, end: float
    ) -> Literal["max_pages", "time", "result_size"] | None:
        if self._clock() >= end:
            return "time"
        if progress.bytes > self._bounds.result_bytes:
            return "result_size"
        visits = len(progress.pages) + progress.skipped_total
        full = len(progress.pages) >= scope.max_pages
        return "max_pages" if full or visits >= scope.max_visits else None

    def _start(
        self,
        progress: _Progress,
        scope: _Scope,
        running: dict[asyncio.Task[Read], tuple[int, Visit]],
    ) -> None:
        visits = len(progress.pages) + progress.skipped_total + len(running)
        room = min(
            self._bounds.width - len(running),
            scope.max_pages - len(progress.pages) - len(running),
            scope.max_visits - visits,
        )
        for _ in range(min(room, len(progress.waiting))):
            order, url, depth = progress.waiting.popleft()
            visit = Visit(url, depth, scope.request, scope.call_id, scope.hosts)
            task = asyncio.create_task(self._reader.read(visit), name=f"visit {order}")
            running[task] = (order, visit)

    def _note(
        self, progress: _Progress, scope: _Scope, order: int, visit: Visit, read: Read
    ) -> None:
        match read:
            case Reading():
                if normalize(read.page.final_url) in progress.read:
                    _skip(progress, SkippedPage(url=visit.url, reason="duplicate"))
                    return
                self._note_page(progress, order, read)
                if progress.bytes > self._bounds.result_bytes:
                    progress.pages.pop()  # it does not fit; the crawl ends before it
                    return
                scope.note_links(progress, read)
            case Retry(error) | Failed(error):
                reason, detail = error.code.value, error.detail
                _skip(progress, SkippedPage(url=visit.url, reason=reason, detail=detail))
            case Snooze(reason=why):
                _skip(progress, SkippedPage(url=visit.url, reason="busy", detail=why))

    def _note_page(self, progress: _Progress, order: int, reading: Reading) -> int:
        page = reading.page
        progress.pages.append((order, page))
        progress.read.add(normalize(page.final_url) or page.final_url)
        progress.bytes += reading.size
        return progress.bytes


class _Scope:
    """Which links a crawl follows."""

    def __init__(self, request: CrawlRequest, call_id: str, hosts: frozenset[str] | None) -> None:
        follow = request.follow
        self.request = request
        self.call_id = call_id
        self.hosts = hosts
        self.max_pages = 1 if follow is None else follow.max_pages
        self.max_visits = self.max_pages * _MAX_FAILURES_PER_PAGE
        self._max_depth = 0 if follow is None else follow.max_depth

    def note_links(self, progress: _Progress, reading: Reading) -> None:
        """Put the page's new links at the end of the queue."""
        depth = reading.page.depth + 1
        if depth > self._max_depth:
            return
        for url, host in reading.links:
            if self.hosts is not None and host not in self.hosts:
                continue
            if url in progress.known or url in progress.read:
                continue
            if len(progress.waiting) >= self.max_visits:
                return
            progress.known.add(url)
            progress.order += 1
            progress.waiting.append((progress.order, url, depth))


def _skip(progress: _Progress, entry: SkippedPage) -> None:
    progress.skipped_total += 1
    if len(progress.skipped) < MAX_SKIPPED:
        progress.skipped.append(entry)


def _result(
    progress: _Progress, stopped_by: Literal["max_pages", "time", "result_size"] | None
) -> CrawlResult:
    pages = sorted(progress.pages, key=lambda entry: (entry[1].depth, entry[0]))
    return CrawlResult(
        pages=tuple(page for _, page in pages),
        pages_fetched=len(pages),
        skipped=tuple(progress.skipped),
        skipped_total=progress.skipped_total,
        stopped_by=stopped_by,
    )
