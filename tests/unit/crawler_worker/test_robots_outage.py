"""What a robots.txt that cannot be read does to the jobs of its site, over their whole lives.

The worker's own code runs on a clock that jumps from one attempt to the next; the site is a
function, so that hundreds of jobs take a second.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from crawler_worker.fetch import Fetcher
from crawler_worker.follow import Bounds
from crawler_worker.handler import CrawlHandler
from crawler_worker.politeness import Politeness
from crawler_worker.providers.fetch import FetchReader
from crawler_worker.robots import Robots
from crawler_worker.settings import CrawlProvider, SiteSettings
from forebay.jobs import Attempt, Event, Job
from forebay.outcomes import Outcome, Retry, Snooze
from forebay.requests import CrawlFormat, CrawlRequest
from forebay.retry import RetryPolicy
from forebay.worker.verdict import Verdict, judge
from tests.unit.crawler_worker.conftest import FakeTime, crawl_job

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HOME = "http://site.test/"
ELSEWHERE = "http://elsewhere.test/"
JOBS = 400


@dataclass
class World:
    """A site, the handlers of some worker processes, and jobs that live by their outcomes."""

    time: FakeTime
    fails: Callable[[int, float], bool]
    """Whether the site fails its n-th robots.txt, at this time."""
    handlers: list[CrawlHandler] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    rules: list[float] = field(default_factory=list)
    """When a robots.txt was asked for."""
    pages: int = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/elsewhere":
            return httpx.Response(302, headers={"Location": ELSEWHERE})
        if request.url.path != "/robots.txt":
            self.pages += 1
            page = httpx.ByteStream(b"<p>Words.")
            return httpx.Response(200, stream=page, headers={"Content-Type": "text/html"})
        self.rules.append(self.time.now)
        if self.fails(len(self.rules), self.time.now):
            raise httpx.ConnectError("reset")
        return httpx.Response(404)

    async def attempt(self, job: Job, url: str = HOME) -> Outcome:
        request = CrawlRequest(url=url, formats=(CrawlFormat.LINKS,))
        return await self.chance.choice(self.handlers).handle(job, request)

    async def lives(self, within_s: float) -> list[Job]:
        """Jobs that come over so many seconds, each lived to its end."""
        due = [(self.chance.uniform(0, within_s), n, a_job()) for n in range(JOBS)]
        heapq.heapify(due)
        ended = []
        while due:
            self.time.now, n, job = heapq.heappop(due)
            assert self.time.now < 3600, "jobs that never end"
            job = job.evolve(attempts=job.attempts + 1, started_at=self.at())
            verdict = judge(job, await self.attempt(job), RetryPolicy(), self.chance.random())
            job = self.after(job, verdict)
            if verdict.event in {Event.RETRY_LATER, Event.SNOOZED}:
                heapq.heappush(due, (self.time.now + verdict.wait_s, n, job))
            else:
                ended.append(job)
        return ended

    def at(self) -> datetime:
        return BEGAN + timedelta(seconds=self.time.now)

    def after(self, job: Job, verdict: Verdict) -> Job:
        record = Attempt(
            n=job.attempts,
            generation=job.generation,
            outcome=verdict.event.value.replace(" ", "_"),
            worker="w",
            started_at=self.at(),
            finished_at=self.at(),
            error=verdict.cause or verdict.error,
        )
        return job.evolve(
            attempts=job.attempts - verdict.uncount,
            history=(*job.history, record),
            error=verdict.error,
            dead_lettered=verdict.dead_lettered,
        )


def a_job() -> Job:
    return crawl_job().evolve(attempts=0)


@asynccontextmanager
async def a_world(
    time: FakeTime, fails: Callable[[int, float], bool], processes: int = 1
) -> AsyncIterator[World]:
    world = World(time, fails)
    settings = SiteSettings(crawl_delay_s=0)
    with ThreadPoolExecutor(1) as executor:
        async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as client:
            for _ in range(processes):
                robots = Robots(
                    client,
                    settings.user_agent,
                    ttl_s=settings.robots_ttl_s,
                    timeout_s=5,
                    clock=time.clock,
                    chance=world.chance.random,
                )
                turns = Politeness(2, time.clock, time.sleep)
                fetcher = Fetcher(
                    client, robots, turns, settings, identify=False, now=lambda: BEGAN
                )
                reader = FetchReader(fetcher, executor, lambda: BEGAN)
                bounds = Bounds(2, 100, 10**7)
                handler = CrawlHandler(
                    {CrawlProvider.FETCH: reader}, CrawlProvider.FETCH, bounds, time.clock
                )
                world.handlers.append(handler)
            yield world


@pytest.mark.parametrize("processes", [1, 4])
async def test_one_failed_robots_txt_fails_no_job(time: FakeTime, processes: int) -> None:
    async with a_world(time, lambda n, _: n == 1, processes) as world:
        ended = await world.lives(within_s=30)
    assert Counter(job.history[-1].outcome for job in ended) == {"succeeded": JOBS}
    assert world.pages == JOBS
    # Only the one whose call it was has lost an attempt.
    assert sum(job.attempts - 1 for job in ended) == 1
    assert any(attempt.outcome == "snoozed" for job in ended for attempt in job.history)
    assert max(len(job.history) for job in ended) == 2


@pytest.mark.parametrize("processes", [1, 4])
async def test_half_a_minute_without_robots_txt_fails_no_job(
    time: FakeTime, processes: int
) -> None:
    async with a_world(time, lambda _, now: now < 30, processes) as world:
        ended = await world.lives(within_s=30)
    assert Counter(job.history[-1].outcome for job in ended) == {"succeeded": JOBS}
    assert max(job.attempts for job in ended) <= 3


@pytest.mark.parametrize("processes", [1, 4])
async def test_a_robots_txt_that_always_fails_fails_each_job_with_all_its_attempts(
    time: FakeTime, processes: int
) -> None:
    async with a_world(time, lambda *_: True, processes) as world:
        ended = await world.lives(within_s=30)
    assert world.pages == 0
    for job in ended:
        assert job.dead_lettered
        assert (job.attempts, job.max_attempts) == (5, 5)
        told = Counter(attempt.outcome for attempt in job.history)
        # Put back once, then each try of its process counts; another's may be old news to it.
        assert told["snoozed"] <= (1 if processes == 1 else 5)
    # An attempt is half a minute and its jitter; five of them and the way there.
    assert time.now < 30 * 5 * 2
    # The site is not asked more often than once in half a minute by each process.
    assert len(world.rules) <= processes * (time.now // 30 + 1)


async def test_old_news_is_a_snooze_until_the_next_try_and_a_bit(time: FakeTime) -> None:
    async with a_world(time, lambda *_: True) as world:
        own = await world.attempt(a_job())
        time.now = 10
        late = await world.attempt(a_job())
        spread = {(await world.attempt(a_job())) for _ in range(20)}
    assert isinstance(own, Retry)
    assert own.error.retry_after_s == 30
    assert isinstance(late, Snooze)
    assert 20 <= late.for_s < 25
    assert len(spread) == 20
    assert len(world.rules) == 1


async def test_a_try_that_failed_while_a_job_was_put_back_counts_for_it(time: FakeTime) -> None:
    async with a_world(time, lambda *_: True) as world:
        await world.attempt(a_job())
        time.now = 10
        waiting = world.after(a_job(), Verdict(event=Event.SNOOZED, wait_s=20, uncount=True))
        time.now = 31
        await world.attempt(a_job())
        time.now = 33
        outcome = await world.attempt(waiting.evolve(started_at=world.at()))
        newcomer = await world.attempt(a_job().evolve(started_at=world.at()))
        replayed = waiting.evolve(started_at=world.at(), generation=2)
        anew = await world.attempt(replayed)
    assert isinstance(outcome, Retry)
    assert outcome.error.retry_after_s == 28
    assert isinstance(newcomer, Snooze)
    assert isinstance(anew, Snooze)
    assert world.rules == [0, 31]


async def test_a_job_that_made_a_call_already_is_never_put_back_uncounted(time: FakeTime) -> None:
    async with a_world(time, lambda n, _: n == 1) as world:
        await world.attempt(a_job(), ELSEWHERE)
        time.now = 10
        outcome = await world.attempt(a_job(), f"{HOME}elsewhere")
    assert isinstance(outcome, Retry)
    assert outcome.error.retry_after_s == 20
    assert world.rules == [0, 10]
