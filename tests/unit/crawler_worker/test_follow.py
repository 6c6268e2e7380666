from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from crawler_worker.follow import Bounds, Crawl
from crawler_worker.links import Link, read_link
from crawler_worker.results import MAX_SKIPPED, CrawledPage, CrawlResult
from crawler_worker.visit import Read, Reading, Visit
from forebay.errors import ErrorCode, JobError
from forebay.outcomes import Failed, Retry, Snooze
from forebay.requests import CrawlRequest, Follow
from tests.unit.crawler_worker.conftest import FakeTime

HOME = "https://site.example.com/"


class FakeWeb:
    """Pages and their links; what is not there is a 404. Each visit takes a second."""

    def __init__(
        self,
        links: Mapping[str, list[str]],
        time: FakeTime,
        redirects: Mapping[str, str] | None = None,
        text: str = "",
    ) -> None:
        self.links = links
        self.time = time
        self.redirects = redirects or {}
        self.text = text
        self.visits: list[Visit] = []
        self.inside = self.most = 0

    async def read(self, visit: Visit) -> Read:
        self.visits.append(visit)
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.time.sleep(1.0)
        self.inside -= 1
        final = self.redirects.get(visit.url, visit.url)
        if final not in self.links:
            return Failed(JobError(ErrorCode.PROVIDER_REJECTED, "not there"))
        page = CrawledPage(
            url=visit.url,
            final_url=final,
            status=200,
            depth=visit.depth,
            title=final,
            content_type="text/html",
            text=self.text or None,
            bytes=1,
            fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        links = (read_link(url) for url in self.links[final])
        return Reading.of(page, tuple(link for link in links if link is not None))


async def crawl(
    web: FakeWeb, *, url: str = HOME, width: int = 3, time_s: float = 1e6, size: int = 10**9,
    **follow: object,
) -> CrawlResult | Retry | Failed | Snooze:  # fmt: skip
    request = CrawlRequest(url=url, follow=Follow.model_validate(follow))
    return await Crawl(web, Bounds(width, time_s, size), web.time.clock).run(request, "job.1")


async def pages(web: FakeWeb, **options: object) -> CrawlResult:
    result = await crawl(web, **options)  # type: ignore[arg-type] # options of the crawl
    assert isinstance(result, CrawlResult)
    return result


def tree(width: int, depth: int) -> dict[str, list[str]]:
    links: dict[str, list[str]] = {}
    level = [HOME]
    for n in range(depth + 1):
        below: list[str] = []
        for url in level:
            children = [f"{HOME}{n}/{len(below) + i}" for i in range(width)]
            links[url] = children if n < depth else [HOME]
            below += children
        level = below
    return links


async def test_pages_come_by_depth_and_in_the_order_they_were_met(time: FakeTime) -> None:
    web = FakeWeb(tree(3, 2), time)
    result = await pages(web, max_depth=2, max_pages=100)
    assert [page.depth for page in result.pages] == [0] + [1] * 3 + [2] * 9
    assert [page.url for page in result.pages[1:4]] == [f"{HOME}0/{n}" for n in range(3)]
    assert result.stopped_by is None
    assert result.pages_fetched == 13
    assert web.most <= 3


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_links_beyond_the_depth_are_not_followed(time: FakeTime, depth: int) -> None:
    web = FakeWeb(tree(2, 5), time)
    result = await pages(web, max_depth=depth, max_pages=1000)
    assert max(page.depth for page in result.pages) == depth
    assert len(web.visits) == 2 ** (depth + 1) - 1


@pytest.mark.parametrize("wanted", [5, 6, 7])
async def test_no_more_pages_are_asked_for_than_wanted(time: FakeTime, wanted: int) -> None:
    web = FakeWeb(tree(10, 3), time)
    result = await pages(web, max_depth=5, max_pages=wanted)
    assert result.pages_fetched == len(web.visits) == wanted
    assert result.stopped_by == "max_pages"


async def test_a_page_is_visited_once_however_it_is_linked(time: FakeTime) -> None:
    same = [
        f"{HOME}a",
        f"{HOME}a#part",
        "HTTPS://SITE.example.com/a",
        "https://site.example.com:443/a",
        f"{HOME}b/../a",
        HOME,
        "https://site.example.com",
        f"{HOME}#top",
    ]
    web = FakeWeb({HOME: same, f"{HOME}a": same}, time)
    await pages(web, max_depth=5, max_pages=50)
    assert sorted(visit.url for visit in web.visits) == [HOME, f"{HOME}a"]


async def test_a_redirect_to_a_page_already_read_is_skipped(time: FakeTime) -> None:
    web = FakeWeb({HOME: [f"{HOME}a", f"{HOME}b"], f"{HOME}a": []}, time, {f"{HOME}b": f"{HOME}a"})
    result = await pages(web, width=1, max_depth=1, max_pages=5)
    assert result.pages_fetched == 2
    assert [(entry.url, entry.reason) for entry in result.skipped] == [(f"{HOME}b", "duplicate")]


async def test_the_crawl_stays_on_its_host_unless_told(time: FakeTime) -> None:
    other = "https://other.example.com/"
    web = FakeWeb({HOME: [other, f"{HOME}a"], f"{HOME}a": [], other: []}, time)
    result = await pages(web, max_depth=1, max_pages=5)
    assert {page.url for page in result.pages} == {HOME, f"{HOME}a"}
    assert web.visits[1].hosts == frozenset({"site.example.com"})
    result = await pages(web, max_depth=1, max_pages=5, same_host=False)
    assert {page.url for page in result.pages} == {HOME, f"{HOME}a", other}
    assert web.visits[-1].hosts is None


async def test_the_host_where_the_first_page_ends_belongs_to_the_crawl(time: FakeTime) -> None:
    www = "https://www.example.com/"
    web = FakeWeb({www: [f"{www}a"], f"{www}a": []}, time, {"https://example.com/": www})
    result = await pages(web, url="https://example.com/", max_depth=1, max_pages=5)
    assert [page.final_url for page in result.pages] == [www, f"{www}a"]


async def test_a_later_page_that_fails_is_an_entry_and_the_first_is_the_outcome(
    time: FakeTime,
) -> None:
    web = FakeWeb({HOME: [f"{HOME}gone", f"{HOME}a"], f"{HOME}a": []}, time)
    result = await pages(web, max_depth=1, max_pages=5)
    assert result.pages_fetched == 2
    assert [(s.reason, s.detail) for s in result.skipped] == [("provider_rejected", "not there")]
    outcome = await crawl(FakeWeb({}, time), max_depth=1)
    assert isinstance(outcome, Failed)
    assert outcome.error.detail == "not there"


async def test_a_site_of_dead_links_ends_and_the_list_of_them_is_bounded(time: FakeTime) -> None:
    web = FakeWeb({HOME: [f"{HOME}{n}" for n in range(5000)]}, time)
    result = await pages(web, max_depth=1, max_pages=20)
    assert result.pages_fetched == 1
    assert len(web.visits) <= 200
    assert result.skipped_total == len(web.visits) - 1
    assert len(result.skipped) == MAX_SKIPPED
    assert result.stopped_by == "max_pages"


async def test_when_time_is_up_what_was_read_is_kept(time: FakeTime) -> None:
    web = FakeWeb(tree(10, 4), time)
    result = await pages(web, width=1, time_s=5.5, max_depth=9, max_pages=1000)
    assert result.stopped_by == "time"
    assert 5 <= result.pages_fetched <= 6


async def test_a_visit_that_hangs_does_not_keep_the_crawl_beyond_its_time(time: FakeTime) -> None:
    class Hanging(FakeWeb):
        canceled = False

        async def read(self, visit: Visit) -> Read:
            if visit.depth:
                try:
                    await asyncio.Event().wait()
                finally:
                    Hanging.canceled = True
            return await super().read(visit)

    web = Hanging(tree(2, 2), time)
    loop_clock = asyncio.get_running_loop().time
    request = CrawlRequest(url=HOME, follow=Follow(max_depth=2, max_pages=9))
    result = await Crawl(web, Bounds(3, 0.05, 10**9), loop_clock).run(request, "job.1")
    assert isinstance(result, CrawlResult)
    assert result.stopped_by == "time"
    assert result.pages_fetched == 1
    assert Hanging.canceled


async def test_a_result_is_never_larger_than_its_bound(time: FakeTime) -> None:
    web = FakeWeb(tree(10, 3), time, text="x" * 10_000)
    result = await pages(web, size=100_000, max_depth=9, max_pages=1000)
    assert result.stopped_by == "result_size"
    assert 80_000 < len(result.model_dump_json()) <= 110_000


async def test_the_crawl_neither_measures_a_page_nor_takes_a_link_apart_again(
    time: FakeTime,
) -> None:
    class Measured(FakeWeb):
        async def read(self, visit: Visit) -> Read:
            read = await super().read(visit)
            assert isinstance(read, Reading)
            here = frozenset({Link(f"{HOME}a", "site.example.com"), Link(f"{HOME}b", "elsewhere")})
            return Reading(read.page, tuple(here), size=1000)

    web = Measured({HOME: [], f"{HOME}a": []}, time)
    result = await pages(web, max_depth=5, max_pages=9, size=2000)
    assert [page.url for page in result.pages] == [HOME, f"{HOME}a"]
    assert result.stopped_by is None
    assert isinstance(await crawl(web, max_depth=1, size=999), Failed)


async def test_a_reading_knows_what_its_page_takes_in_a_result(time: FakeTime) -> None:
    web = FakeWeb({HOME: []}, time, text="café")
    read = await web.read(Visit(HOME, 0, CrawlRequest(url=HOME), "job.1"))
    assert isinstance(read, Reading)
    assert read.size == len(read.page.model_dump_json(exclude_none=True).encode())


async def test_a_crawl_that_is_canceled_leaves_no_visit_behind(time: FakeTime) -> None:
    started = asyncio.Event()
    ended = 0

    class Hanging(FakeWeb):
        async def read(self, visit: Visit) -> Read:
            nonlocal ended
            if visit.depth:
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended += 1
            return await super().read(visit)

    task = asyncio.create_task(crawl(Hanging(tree(3, 2), time), max_depth=1, max_pages=9))
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == 3


async def test_pages_on_their_way_count_towards_what_is_wanted(time: FakeTime) -> None:
    started: list[str] = []
    go_on = asyncio.Event()

    class Slow(FakeWeb):
        async def read(self, visit: Visit) -> Read:
            if visit.depth:
                started.append(visit.url)
                await go_on.wait()
            return await super().read(visit)

    task = asyncio.create_task(crawl(Slow(tree(9, 2), time), max_depth=1, max_pages=3))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(started) == 2
    go_on.set()
    assert isinstance(await task, CrawlResult)
    assert len(started) == 2
