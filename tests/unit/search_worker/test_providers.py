"""What each search API is asked, and how its answer is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

from forebay.errors import Unreadable
from forebay.requests import Freshness, SearchRequest
from search_worker.providers import SearchProvider, WireRequest
from search_worker.providers.brave import Brave
from search_worker.providers.searxng import SearXNG
from search_worker.providers.serper import Serper
from search_worker.providers.tavily import Tavily

KEY = SecretStr("s3cret-key")
SEARXNG = SearXNG("http://searxng.example/")
BRAVE = Brave("http://brave.example", KEY)
TAVILY = Tavily("http://tavily.example", KEY)
SERPER = Serper("http://serper.example", KEY)
ALL: tuple[SearchProvider, ...] = (SEARXNG, BRAVE, TAVILY, SERPER)

PLAIN = SearchRequest(query="hydro power")
FULL = SearchRequest(
    query="hydro power",
    limit=30,
    language="pt-BR",
    region="br",
    freshness=Freshness.WEEK,
    site="rivers.example",
)


def parse(provider: SearchProvider, document: object, request: SearchRequest = PLAIN) -> Any:
    return provider.parse(json.dumps(document).encode(), request)


def test_searxng_is_asked_in_its_words() -> None:
    assert SEARXNG.build(PLAIN) == WireRequest(
        "GET",
        "http://searxng.example/search",
        {"q": "hydro power", "format": "json", "pageno": 1},
    )
    assert SEARXNG.build(FULL).params == {
        "q": "hydro power site:rivers.example",
        "format": "json",
        "pageno": 1,
        "language": "pt-BR",
        "time_range": "week",
    }


def test_searxng_says_that_a_region_without_a_language_was_not_applied() -> None:
    request = SearchRequest(query="q", region="CH")
    assert "language" not in SEARXNG.build(request).params
    assert parse(SEARXNG, {"results": []}, request).not_applied == ("region",)


def test_brave_is_asked_in_its_words() -> None:
    wire = BRAVE.build(FULL)
    assert (wire.method, wire.url) == ("GET", "http://brave.example/res/v1/web/search")
    assert wire.headers["X-Subscription-Token"] == "s3cret-key"
    assert wire.params == {
        "q": "hydro power site:rivers.example",
        "count": 20,
        "result_filter": "web",
        "text_decorations": "false",
        "search_lang": "pt-br",
        "country": "BR",
        "freshness": "pw",
    }


@pytest.mark.parametrize(
    ("tag", "said"),
    [("en-US", "en"), ("ja", "jp"), ("zh-TW", "zh-hant"), ("zh", "zh-hans"), ("de", "de")],
)
def test_brave_knows_languages_by_its_own_list(tag: str, said: str) -> None:
    assert BRAVE.build(SearchRequest(query="q", language=tag)).params["search_lang"] == said


def test_tavily_is_asked_in_its_words() -> None:
    wire = TAVILY.build(FULL)
    assert (wire.method, wire.url) == ("POST", "http://tavily.example/search")
    assert wire.headers == {"Authorization": "Bearer s3cret-key"}
    assert wire.json == {
        "query": "hydro power",
        "max_results": 20,
        "search_depth": "basic",
        "topic": "general",
        "country": "brazil",
        "time_range": "week",
        "include_domains": ["rivers.example"],
    }


def test_tavily_says_what_it_could_not_apply() -> None:
    request = SearchRequest(query="q", language="de", region="AQ")
    assert "country" not in (TAVILY.build(request).json or {})
    assert parse(TAVILY, {"results": []}, request).not_applied == ("language", "region")
    assert parse(TAVILY, {"results": []}, PLAIN).not_applied == ()


def test_serper_is_asked_in_its_words() -> None:
    wire = SERPER.build(FULL)
    assert (wire.method, wire.url) == ("POST", "http://serper.example/search")
    assert wire.headers == {"X-API-KEY": "s3cret-key"}
    assert wire.json == {
        "q": "hydro power site:rivers.example",
        "num": 30,
        "hl": "pt-br",
        "gl": "br",
        "tbs": "qdr:w",
    }


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.name)
def test_no_repr_shows_a_key(provider: SearchProvider) -> None:
    assert "s3cret" not in repr(provider.build(FULL)) + repr(vars(provider))


ENTRY = {
    "searxng": (
        SEARXNG,
        lambda *hits: {"results": list(hits), "number_of_results": 0},
        lambda url, date: {"url": url, "title": "T", "content": "S", "publishedDate": date},
    ),
    "brave": (
        BRAVE,
        lambda *hits: {"type": "search", "web": {"results": list(hits)}},
        lambda url, date: {"url": url, "title": "T", "description": "S", "page_age": date},
    ),
    "tavily": (
        TAVILY,
        lambda *hits: {"results": list(hits)},
        lambda url, date: {"url": url, "title": "T", "content": "S", "published_date": date},
    ),
    "serper": (
        SERPER,
        lambda *hits: {"searchParameters": {"q": "q"}, "organic": list(hits)},
        lambda url, date: {"link": url, "title": "T", "snippet": "S", "date": date},
    ),
}
KNOWN = pytest.mark.parametrize(("provider", "document", "hit"), ENTRY.values(), ids=list(ENTRY))


@KNOWN
def test_every_answer_is_read_into_one_shape(provider: Any, document: Any, hit: Any) -> None:
    first = hit("https://a.example/1", "2026-11-01T08:00:00")
    second = hit("https://b.example/2", None)
    results = parse(provider, document({**first, "extra": {"unknown": 1}}, second))
    assert results.model_dump() == {
        "query": "hydro power",
        "provider": provider.name,
        "results": (
            {
                "title": "T",
                "url": "https://a.example/1",
                "snippet": "S",
                "position": 1,
                "published": "2026-11-01T08:00:00",
                "source": "a.example",
            },
            {
                "title": "T",
                "url": "https://b.example/2",
                "snippet": "S",
                "position": 2,
                "published": None,
                "source": "b.example",
            },
        ),
        "total": None,
        "not_applied": (),
    }


@KNOWN
def test_no_more_results_than_asked_for(provider: Any, document: Any, hit: Any) -> None:
    hits = [hit(f"https://a.example/{n}", None) for n in range(9)]
    results = parse(provider, document(*hits), SearchRequest(query="q", limit=4)).results
    assert [result.position for result in results] == [1, 2, 3, 4]


@KNOWN
def test_a_page_found_twice_is_one_result_and_no_page_is_none(
    provider: Any, document: Any, hit: Any
) -> None:
    odd = [hit(None, None), hit("javascript:alert(1)", None), hit("http://[::1", None)]
    page = hit("https://a.example/1", None)
    other = hit("https://b.example/2", None)
    results = parse(provider, document(*odd, page, page, other)).results
    found = [(result.position, result.url) for result in results]
    assert found == [(1, "https://a.example/1"), (2, "https://b.example/2")]


@KNOWN
@pytest.mark.parametrize(
    ("date", "read"),
    [
        ("2026-11-01", "2026-11-01"),
        ("Nov 1, 2026", "2026-11-01"),
        ("Sun, 01 Nov 2026 08:00:00 GMT", "2026-11-01T08:00:00+00:00"),
        ("3 days ago", "3 days ago"),
        ("", None),
    ],
)
def test_dates_are_iso_where_they_can_be_read(
    provider: Any, document: Any, hit: Any, date: str, read: str | None
) -> None:
    [result] = parse(provider, document(hit("https://a.example/", date))).results
    assert result.published == read


@KNOWN
def test_no_result_is_an_answer_too(
    provider: Any,
    document: Any,
    hit: Any,  # noqa: ARG001
) -> None:
    assert parse(provider, document()).results == ()


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.name)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"a":[1]}',
        b'{"results":{}',
        b'{"results":7,"type":"search","web":7,"searchParameters":7}',
        b"[" * 100_000,
        b'{"type":"search","web":{"results":["x"]},"results":["x"],"organic":["x"]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_not_taken_for_an_empty_one(
    provider: SearchProvider, body: bytes
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the parser calls it
        provider.parse(body, PLAIN)


def test_brave_without_a_match_sends_no_web_part() -> None:
    assert parse(BRAVE, {"type": "search", "query": {}}).results == ()


def test_brave_marks_and_escapes_are_taken_off() -> None:
    entry = {
        "url": "https://a.example/",
        "title": "Tom &amp; Jerry",
        "description": "<strong>hydro</strong> &lt;b&gt; it&#x27;s",
    }
    [result] = parse(BRAVE, {"type": "search", "web": {"results": [entry]}}).results
    assert (result.title, result.snippet) == ("Tom & Jerry", "hydro <b> it's")


def test_searxng_without_results_because_engines_failed_is_no_answer() -> None:
    silent = {"results": [], "unresponsive_engines": [["google", "timeout"], ["bing", "captcha"]]}
    with pytest.raises(Unreadable, match=r"google, bing"):
        parse(SEARXNG, silent)
    found = {"url": "https://a.example/", "title": "T", "content": "S"}
    assert len(parse(SEARXNG, {**silent, "results": [found]}).results) == 1


def test_searxng_total_is_kept_when_it_is_one() -> None:
    assert parse(SEARXNG, {"results": [], "number_of_results": 12400}).total == 12400


@pytest.mark.parametrize(
    ("provider", "status", "body", "setting"),
    [
        (BRAVE, 422, b'{"error":{"code":"SUBSCRIPTION_TOKEN_INVALID"}}', "BRAVE_API_KEY"),
        (BRAVE, 422, b'{"errors":[{"code":"SUBSCRIPTION_TOKEN_INVALID"}]}', "BRAVE_API_KEY"),
        (BRAVE, 402, b'{"error":{"code":"QUOTA_LIMITED"}}', "plan"),
        (TAVILY, 432, b"", "plan"),
        (TAVILY, 433, b"", "limit"),
        (SERPER, 400, b'{"message":"Not enough credits"}', "credits"),
        (SEARXNG, 403, b"", "search.formats"),
    ],
)
def test_refusals_that_are_about_our_account_say_what_to_mend(
    provider: SearchProvider, status: int, body: bytes, setting: str
) -> None:
    assert setting in (provider.account_problem(status, body) or "")


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (429, b"{}"), (422, b"<html>"), (400, b'{"error":{"code":"VALIDATION"}}')],
)
def test_other_refusals_are_left_to_their_status(
    provider: SearchProvider, status: int, body: bytes
) -> None:
    assert provider.account_problem(status, body) is None
