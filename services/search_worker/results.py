"""The one shape in which every search API's answer is stored."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from forebay.requests import SearchRequest


class SearchResult(BaseModel):
    """One page found."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    title: str
    url: str
    snippet: str
    """What the search API shows of the page, as plain text; may be empty."""
    position: int
    """Rank in this answer, from 1."""
    published: str | None
    """ISO 8601 date or time if the search API gives one that can be read, else its own words."""
    source: str
    """Host of the page."""


class SearchResults(BaseModel):
    """The result of a search job."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    query: str
    """As the caller wrote it."""
    provider: str
    results: tuple[SearchResult, ...]
    total: int | None = None
    """How many pages match in all, if the search API says."""
    not_applied: tuple[str, ...] = ()
    """Fields of the request that were set and that this search API knows no parameter for."""


class Hit(BaseModel):
    """A page as an adapter read it, before it is ranked."""

    model_config = ConfigDict(frozen=True)

    title: str | None
    url: str | None
    snippet: str | None
    published: str | None = None


def collect(request: SearchRequest, provider: str, hits: Iterable[Hit]) -> SearchResults:
    """Rank the hits in their order: no more than asked for, none twice, none without a web URL."""
    found: dict[str, SearchResult] = {}
    for hit in hits:
        url = hit.url or ""
        source = _host(url)
        if source is None or url in found:
            continue
        if len(found) == request.limit:
            break
        found[url] = SearchResult(
            title=(hit.title or url).strip(),
            url=url,
            snippet=(hit.snippet or "").strip(),
            position=len(found) + 1,
            published=_published(hit.published),
            source=source,
        )
    return SearchResults(query=request.query, provider=provider, results=tuple(found.values()))


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in {"http", "https"} else None
    except ValueError:
        return None


def _published(said: str | None) -> str | None:
    """`2026-11-01T00:00:00`, `Sun, 01 Nov 2026 00:00:00 GMT` and `Nov 1, 2026` are all in use."""
    text = (said or "").strip()
    if not text:
        return None
    for read in (_iso, _american, _rfc_2822):
        try:
            return read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return text


def _iso(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return text if len(text) <= len("2026-11-01") else moment.isoformat()


def _american(text: str) -> str:
    return datetime.strptime(text, "%b %d, %Y").replace(tzinfo=UTC).date().isoformat()


def _rfc_2822(text: str) -> str:
    return parsedate_to_datetime(text).isoformat()
