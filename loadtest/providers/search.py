"""Four search APIs over one imaginary index: SearXNG, Brave, Tavily and Serper.

The same query finds the same pages through every one of them; each words them its own way.
Shapes: SearXNG's `format=json`, Brave's Web Search API, Tavily's and Serper's references.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from loadtest.providers.behaviour import Kind
from loadtest.providers.exchange import (
    Answer,
    Ask,
    Refused,
    bearer,
    json_answer,
    json_object,
    whole_number,
)
from loadtest.providers.index import NEWEST, Found, find
from loadtest.providers.text import token

_ENGINES = ("duckduckgo", "brave", "mojeek", "startpage")
_PER_PAGE = 10


def _query(value: object, status: int = 422) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused(status, "A search query is required.")
    return value


def _ask(query: str, words: Mapping[str, str], document: dict[str, Any]) -> Ask:
    return Ask(query, str(Kind.SEARCH), lambda: json_answer(document), words.get("simulate", ""))


@dataclass(frozen=True, slots=True)
class SearXNG:
    """`GET /search?format=json`, without a key."""

    seed: int
    name: str = "searxng"
    kind: Kind = Kind.SEARCH
    auth_status: int = 403

    def key_of(self, request: web.Request) -> str | None:  # noqa: ARG002 - the protocol's form
        """Return any text: SearXNG asks for no key."""
        return "none"

    async def read(self, request: web.Request) -> Ask:
        """Understand a query; another format than json is refused, as instances are set up."""
        if request.query.get("format") != "json":
            raise Refused(403, "Forbidden")
        query = _query(request.query.get("q"), status=400)
        page = whole_number(request.query.get("pageno"), 1, 1, 100, "pageno")
        return _ask(query, request.query, self._document(query, page))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as SearXNG does for JSON callers."""
        return json_answer({"error": message}, status)

    def _document(self, query: str, page: int) -> dict[str, Any]:
        found = find(self.seed, query, _PER_PAGE, (page - 1) * _PER_PAGE)
        return {
            "query": query,
            "number_of_results": 0,
            "results": [_searxng_result(result) for result in found],
            "answers": [],
            "corrections": [],
            "infoboxes": [],
            "suggestions": [],
            "unresponsive_engines": [],
        }


def _searxng_result(found: Found) -> dict[str, Any]:
    parts = urlsplit(found.url)
    engine = _ENGINES[found.position % len(_ENGINES)]
    date = found.published.replace(tzinfo=None).isoformat() if found.published else None
    return {
        "url": found.url,
        "title": found.title,
        "content": found.snippet,
        "publishedDate": date,
        "thumbnail": None,
        "engine": engine,
        "template": "default.html",
        "parsed_url": [parts.scheme, parts.netloc, parts.path, "", "", ""],
        "img_src": "",
        "priority": "",
        "engines": [engine],
        "positions": [found.position],
        "score": round(1 / found.position, 4),
        "category": "general",
    }


@dataclass(frozen=True, slots=True)
class Brave:
    """`GET /res/v1/web/search` with `X-Subscription-Token`.

    The real API refuses a bad token with 422 and SUBSCRIPTION_TOKEN_INVALID; here 401 is the
    default for every provider, and `[simulate auth]` shows Brave's own.
    """

    seed: int
    name: str = "brave"
    kind: Kind = Kind.SEARCH
    auth_status: int = 422

    def key_of(self, request: web.Request) -> str | None:
        """Return the subscription token."""
        return request.headers.get("X-Subscription-Token")

    async def read(self, request: web.Request) -> Ask:
        """Understand a query; raises Refused with 422 as Brave's validation does."""
        query = _query(request.query.get("q"))
        count = whole_number(request.query.get("count"), 20, 1, 20, "count")
        offset = whole_number(request.query.get("offset"), 0, 0, 9, "offset")
        return _ask(query, request.query, self._document(query, count, offset))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as Brave does."""
        code, component = _BRAVE_CODES.get(status, ("INTERNAL", "api"))
        error = {
            "id": token("brave", status, message, length=32),
            "status": status,
            "code": code,
            "detail": message,
            "meta": {"component": component},
        }
        document = {"type": "ErrorResponse", "error": error, "time": int(NEWEST.timestamp())}
        return json_answer(document, status)

    def _document(self, query: str, count: int, offset: int) -> dict[str, Any]:
        found = find(self.seed, query, count, offset * count)
        order = [{"type": "web", "index": at, "all": False} for at in range(len(found))]
        return {
            "type": "search",
            "query": {
                "original": query,
                "show_strict_warning": False,
                "is_navigational": False,
                "country": "us",
                "more_results_available": True,
            },
            "mixed": {"type": "mixed", "main": order, "top": [], "side": []},
            "web": {
                "type": "search",
                "results": [_brave_result(result) for result in found],
                "family_friendly": True,
            },
        }


_BRAVE_CODES = {
    401: ("SUBSCRIPTION_TOKEN_INVALID", "authentication"),
    422: ("SUBSCRIPTION_TOKEN_INVALID", "authentication"),
    429: ("RATE_LIMITED", "rate_limiter"),
}


def _brave_result(found: Found) -> dict[str, Any]:
    parts = urlsplit(found.url)
    first, _, rest = html.escape(found.snippet).partition(" ")
    result = {
        "title": html.escape(found.title),
        "url": found.url,
        "is_source_local": False,
        "is_source_both": False,
        # Brave marks the words it matched and escapes the rest.
        "description": f"<strong>{first}</strong> {rest}",
        "profile": {"name": parts.netloc, "url": found.url, "long_name": parts.netloc},
        "language": "en",
        "family_friendly": True,
        "type": "search_result",
        "subtype": "generic",
        "meta_url": {
            "scheme": parts.scheme,
            "netloc": parts.netloc,
            "hostname": parts.netloc,
            "path": parts.path,
        },
    }
    if found.published is not None:
        result["page_age"] = found.published.replace(tzinfo=None).isoformat()
        result["age"] = f"{found.published:%B} {found.published.day}, {found.published.year}"
    return result


@dataclass(frozen=True, slots=True)
class Tavily:
    """`POST /search` with a bearer key; dates come with `topic: news` only."""

    seed: int
    name: str = "tavily"
    kind: Kind = Kind.SEARCH
    auth_status: int = 401

    def key_of(self, request: web.Request) -> str | None:
        """Return the bearer token."""
        return bearer(request)

    async def read(self, request: web.Request) -> Ask:
        """Understand a search; raises Refused."""
        body = await json_object(request)
        query = _query(body.get("query"))
        count = whole_number(body.get("max_results"), 5, 0, 20, "max_results")
        return _ask(query, request.query, self._document(body, query, count))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as Tavily does."""
        return json_answer({"detail": {"error": message}}, status)

    def _document(self, body: dict[str, Any], query: str, count: int) -> dict[str, Any]:
        found = find(self.seed, query, count)
        news = body.get("topic") == "news"
        answer = found[0].snippet if found and body.get("include_answer") else None
        return {
            "query": query,
            "follow_up_questions": None,
            "answer": answer,
            "images": [],
            "results": [_tavily_result(result, with_date=news) for result in found],
            "response_time": 0.42,
            "request_id": token(self.seed, query, length=32),
        }


def _tavily_result(found: Found, *, with_date: bool) -> dict[str, Any]:
    result = {
        "url": found.url,
        "title": found.title,
        "content": found.snippet,
        "score": round(0.99 - found.position / 50, 6),
        "raw_content": None,
    }
    if with_date and found.published is not None:
        result["published_date"] = format_datetime(found.published, usegmt=True)
    return result


@dataclass(frozen=True, slots=True)
class Serper:
    """`POST /search` with `X-API-KEY`; the real one refuses a bad key with 403."""

    seed: int
    name: str = "serper"
    kind: Kind = Kind.SEARCH
    auth_status: int = 403

    def key_of(self, request: web.Request) -> str | None:
        """Return the API key."""
        return request.headers.get("X-API-KEY")

    async def read(self, request: web.Request) -> Ask:
        """Understand a search; raises Refused with 400."""
        body = await json_object(request)
        query = _query(body.get("q"), status=400)
        count = whole_number(body.get("num"), _PER_PAGE, 1, 100, "num")
        page = whole_number(body.get("page"), 1, 1, 100, "page")
        return _ask(query, request.query, self._document(query, count, page))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as Serper does."""
        spoken = "Unauthorized." if status in {401, 403} else message
        return json_answer({"message": spoken, "statusCode": status}, status)

    def _document(self, query: str, count: int, page: int) -> dict[str, Any]:
        found = find(self.seed, query, count, (page - 1) * count)
        return {
            "searchParameters": {
                "q": query,
                "type": "search",
                "num": count,
                "page": page,
                "engine": "google",
            },
            "organic": [
                _serper_result(result, place) for place, result in enumerate(found, start=1)
            ],
            "relatedSearches": [],
            "credits": 1 if count <= _PER_PAGE else 2,
        }


def _serper_result(found: Found, place: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "title": found.title,
        "link": found.url,
        "snippet": found.snippet,
        "position": place,
    }
    if found.published is not None:
        result["date"] = f"{found.published:%b} {found.published.day}, {found.published.year}"
    return result
