"""The composition root of the crawler worker."""

from __future__ import annotations

from crawler_worker.handler import open_handler
from crawler_worker.settings import (
    CrawlerSettings,
    FirecrawlSettings,
    SiteSettings,
)
from forebay.jobs import JobKind
from forebay.process import Process
from forebay.requests import CrawlRequest
from forebay.settings import AddressSettings, load
from forebay.worker.runtime import WorkerSpec, run_worker


async def main(process: Process) -> None:
    """Work until a stop signal."""
    settings = load(CrawlerSettings)
    sites, firecrawl = load(SiteSettings), load(FirecrawlSettings)
    async with open_handler(settings, sites, firecrawl, load(AddressSettings).allowed) as handler:
        await run_worker(
            process, WorkerSpec(JobKind.CRAWL, CrawlRequest, handler, settings, settings.backoff)
        )
