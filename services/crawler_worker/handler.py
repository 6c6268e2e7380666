"""Crawl jobs: pick who fetches, crawl, answer with the pages as JSON."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import httpx
from aiohttp.abc import AbstractResolver

from crawler_worker.fetch import Fetcher
from crawler_worker.follow import Bounds, Crawl
from crawler_worker.politeness import Politeness
from crawler_worker.providers.fetch import FetchReader
from crawler_worker.providers.firecrawl import FirecrawlReader
from crawler_worker.results import CrawlResult, as_json
from crawler_worker.robots import Robots
from crawler_worker.settings import (
    CrawlerSettings,
    CrawlProvider,
    FirecrawlSettings,
    SiteSettings,
)
from crawler_worker.visit import PageReader
from forebay.addresses import AddressGuard
from forebay.http import Resolver, TargetGate, build_client, call_id
from forebay.jobs import Job, Usage
from forebay.outcomes import Call, Failed, Outcome, Succeeded
from forebay.progress import Write, unheard
from forebay.requests import CrawlRequest
from forebay.worker.choice import choose


class CrawlReader(PageReader, Protocol):
    """A reader by its provider's name, which may lack a setting."""

    @property
    def name(self) -> str:
        """What `provider.order` calls it."""

    @property
    def missing_setting(self) -> str | None:
        """The setting without which it cannot be called."""


class CrawlHandler:
    """The handler of crawl jobs.

    Args:
        readers: by the name that `provider.order` uses.
        default: for jobs that name none.
        bounds: of each crawl.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        readers: Mapping[str, CrawlReader],
        default: CrawlProvider,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readers = readers
        self._default = default
        self._bounds = bounds
        self._clock = clock

    async def handle(self, job: Job, request: CrawlRequest, _: Write = unheard, /) -> Outcome:
        """Each page is called for at most once; a first page that fails is the job's outcome."""
        reader = choose(self._readers, job.provider, self._default)
        if isinstance(reader, Failed):
            return reader
        crawl = Crawl(reader, self._bounds, self._clock)
        result = await crawl.run(request, call_id(job), _waited_s(job))
        if not isinstance(result, CrawlResult):
            return result
        call = Call(reader.name, result.pages[0].status)
        usage = Usage(requests=result.pages_fetched + result.skipped_total)
        return Succeeded(as_json(result), call, usage)


def _waited_s(job: Job) -> float:
    """Seconds between the job's last attempt and this one, both by the store's clock."""
    last = job.history[-1] if job.history else None
    if last is None or last.generation != job.generation or job.started_at is None:
        return 0.0
    return max((job.started_at - last.finished_at).total_seconds(), 0.0)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _bounds(settings: CrawlerSettings, sites: SiteSettings) -> Bounds:
    return Bounds(
        width=sites.per_host_concurrency,
        # A tenth is left for storing what there is.
        time_s=settings.timeout_s * 0.9,
        result_bytes=settings.max_result_bytes,
    )


@asynccontextmanager
async def open_handler(
    settings: CrawlerSettings,
    sites: SiteSettings,
    firecrawl: FirecrawlSettings,
    allow: frozenset[tuple[str, int]],
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[CrawlHandler]:
    """The handler with its clients and threads, closed at the end.

    Args:
        settings: the worker's own.
        sites: the manners on other people's sites.
        firecrawl: how to reach the crawler API.
        allow: exact hosts and ports that may be crawled although the address guard forbids them.
        resolver: how the sites' names become addresses; the system's by default.
    """
    # It reports every odd page as an error of its own, with pieces of the page.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    guard = AddressGuard(allow)
    names = resolver or Resolver()
    connections = settings.concurrency * sites.per_host_concurrency
    executor = ThreadPoolExecutor(settings.extract_threads, thread_name_prefix="extract")
    try:
        async with (
            build_client(
                concurrency=connections,
                timeout_s=sites.page_timeout_s,
                guard=guard,
                user_agent=sites.user_agent,
                resolver=names,
            ) as web,
            # The crawler API is the operator's choice and may well be on an inner network.
            build_client(concurrency=connections, timeout_s=settings.timeout_s) as api,
        ):
            fetch = FetchReader(_fetcher(web, settings, sites), executor, _utc_now)
            readers: dict[str, CrawlReader] = {
                CrawlProvider.FETCH: fetch,
                CrawlProvider.FIRECRAWL: FirecrawlReader(
                    api,
                    firecrawl,
                    TargetGate(guard, names),
                    executor,
                    timeout_s=sites.page_timeout_s,
                    now=_utc_now,
                ),
            }
            yield CrawlHandler(readers, settings.provider, _bounds(settings, sites))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _fetcher(client: httpx.AsyncClient, settings: CrawlerSettings, sites: SiteSettings) -> Fetcher:
    robots = Robots(
        client,
        sites.user_agent,
        ttl_s=sites.robots_ttl_s,
        timeout_s=sites.page_timeout_s,
        clock=time.monotonic,
    )
    politeness = Politeness(sites.per_host_concurrency, time.monotonic)
    return Fetcher(client, robots, politeness, sites, identify=settings.identify_job, now=_utc_now)
