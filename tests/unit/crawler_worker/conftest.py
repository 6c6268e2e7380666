from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from crawler_worker.handler import CrawlHandler, open_handler
from crawler_worker.settings import CrawlerSettings, FirecrawlSettings, SiteSettings
from forebay.jobs import Job, JobKind, JobState, Lane, ProviderPreference
from tests.unit.http.web import Site, running_site


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def crawl_job(*providers: str) -> Job:
    return Job(
        id="job_1",
        tenant="test",
        kind=JobKind.CRAWL,
        lane=Lane.DEFAULT,
        state=JobState.RUNNING,
        input="{}",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempts=2,
        max_attempts=5,
        provider=ProviderPreference(providers),
    )


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


@pytest.fixture
async def handler(site: Site) -> AsyncIterator[CrawlHandler]:
    """The handler as the process makes it, allowed to crawl the test's site."""
    settings = CrawlerSettings(identify_job=True)
    sites = SiteSettings(crawl_delay_s=0, per_host_concurrency=3, page_timeout_s=5)
    async with open_handler(settings, sites, FirecrawlSettings(), site.allow) as opened:
        yield opened
