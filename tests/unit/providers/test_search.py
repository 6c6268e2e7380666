from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from loadtest.providers import Providers

Get = Callable[..., Awaitable[tuple[int, dict[str, Any], Any]]]
PROVIDERS = ("searxng", "brave", "tavily", "serper")


@pytest.fixture
def search(world: Providers, client: aiohttp.ClientSession) -> Get:
    async def call(provider: str, query: str, key: str | None = "good", **more: Any):
        base, headers = world.providers_url, {"X-Request-ID": more.pop("rid", "job_1.1")}
        match provider:
            case "searxng":
                params = {"q": query, "format": "json", **more}
                asked = client.get(f"{base}/searxng/search", params=params, headers=headers)
            case "brave":
                headers |= {} if key is None else {"X-Subscription-Token": key}
                params = {"q": query, **more}
                url = f"{base}/brave/res/v1/web/search"
                asked = client.get(url, params=params, headers=headers)
            case "tavily":
                headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
                body = {"query": query, **more}
                asked = client.post(f"{base}/tavily/search", json=body, headers=headers)
            case _:
                headers |= {} if key is None else {"X-API-KEY": key}
                body = {"q": query, **more}
                asked = client.post(f"{base}/serper/search", json=body, headers=headers)
        async with asked as answer:
            return answer.status, await answer.json(), answer.headers

    return call


async def test_all_four_find_the_same_pages_in_their_own_words(search: Get):
    _, searxng, _ = await search("searxng", "rivers")
    _, brave, _ = await search("brave", "rivers", count=10)
    _, tavily, _ = await search("tavily", "rivers", max_results=10)
    _, serper, _ = await search("serper", "rivers", num=10)
    urls = [result["url"] for result in searxng["results"]]
    assert len(set(urls)) == 10
    assert [result["url"] for result in brave["web"]["results"]] == urls
    assert [result["url"] for result in tavily["results"]] == urls
    assert [result["link"] for result in serper["organic"]] == urls
    assert [result["position"] for result in serper["organic"]] == list(range(1, 11))
    assert all("<strong>" in result["description"] for result in brave["web"]["results"])


async def test_some_results_are_dated_and_some_are_not(search: Get):
    _, searxng, _ = await search("searxng", "rivers")
    dates = [result["publishedDate"] for result in searxng["results"]]
    _, serper, _ = await search("serper", "rivers")
    assert [date is None for date in dates] == ["date" not in r for r in serper["organic"]]
    assert 0 < dates.count(None) < 10


async def test_tavily_dates_only_news(search: Get):
    _, general, _ = await search("tavily", "rivers", max_results=10)
    _, news, _ = await search("tavily", "rivers", max_results=10, topic="news")
    assert not any("published_date" in result for result in general["results"])
    dates = [r["published_date"] for r in news["results"] if "published_date" in r]
    assert dates
    assert all(parsedate_to_datetime(date) for date in dates)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_same_query_has_the_same_answer_and_another_query_another(
    search: Get, provider: str
):
    first, again, other = [(await search(provider, q))[1] for q in ("dams", "dams", "weirs")]
    assert first == again
    assert first != other


async def test_the_next_page_continues_the_first(search: Get):
    _, whole, _ = await search("brave", "rivers", count=20)
    _, second, _ = await search("brave", "rivers", count=10, offset=1)
    assert second["web"]["results"] == whole["web"]["results"][10:]


@pytest.mark.parametrize("key", [None, "", "wrong"])
@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("brave", ("error", "code")),
        ("tavily", ("detail", "error")),
        ("serper", ("message",)),
    ],
)
async def test_a_bad_key_is_refused_in_the_providers_own_shape(
    search: Get, provider: str, path: tuple[str, ...], key: str | None
):
    status, body, _ = await search(provider, "rivers", key=key)
    assert status == 401
    for name in path:
        body = body[name]
    assert body


@pytest.mark.parametrize(("provider", "status"), [("brave", 422), ("serper", 403), ("tavily", 401)])
async def test_the_real_refusal_of_a_key_is_there_on_demand(
    search: Get, provider: str, status: int
):
    assert (await search(provider, "rivers [simulate auth]"))[0] == status


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_first_calls_of_a_job_fail_as_asked_and_the_next_is_good(
    search: Get, provider: str
):
    query = "rivers [simulate status=503 times=2]"
    statuses = [(await search(provider, query, rid=f"job_t.{n}"))[0] for n in (1, 2, 3)]
    other_job = (await search(provider, query, rid="job_u.1"))[0]
    assert (statuses, other_job) == ([503, 503, 200], 503)


async def test_a_directive_does_not_change_what_is_found(search: Get):
    _, plain, _ = await search("serper", "rivers")
    _, directed, _ = await search("serper", "rivers [simulate status=500 times=0]")
    assert plain["organic"] == directed["organic"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_too_many_requests_says_when_to_come_back(search: Get, provider: str):
    status, _, headers = await search(provider, "rivers [simulate status=429 retry_after=2]")
    assert (status, headers["Retry-After"]) == (429, "2")


async def test_an_unknown_directive_is_a_plain_400(search: Get):
    status, body, _ = await search("serper", "rivers [simulate explode]")
    assert status == 400
    assert "explode" in body["message"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_empty_query_is_refused(search: Get, provider: str):
    assert (await search(provider, " "))[0] in {400, 422}
