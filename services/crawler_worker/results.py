"""What a crawl answers with: always `pages`, be it one page or many."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

MAX_SKIPPED = 100
"""Entries of `skipped` that are kept; `skipped_total` counts them all."""


class ResultModel(BaseModel):
    """Frozen: a result is written once."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class CrawledPage(ResultModel):
    """One page. Of the formats, those asked for are there and the others are left out."""

    url: str
    """As asked for, or as the link said."""
    final_url: str
    """Where the redirects ended."""
    status: int
    depth: int
    """Links away from the first page."""
    title: str
    """Empty when the page has none."""
    content_type: str
    markdown: str | None = None
    text: str | None = None
    html: str | None = None
    """Without scripts, styles and frames; not made safe for showing in a browser."""
    links: tuple[str, ...] | None = None
    """Absolute http and https URLs, each once, in the order of the page."""
    metadata: dict[str, str] | None = None
    """What the page says about itself: description, author, language, canonical, published ..."""
    bytes: int
    """Size of the page, decoded."""
    fetched_at: datetime


class SkippedPage(ResultModel):
    """A link that was followed in vain."""

    url: str
    reason: str
    """An error code such as `robots_denied`; `duplicate` for a redirect to a page already read."""
    detail: str | None = None


class CrawlResult(ResultModel):
    """The stored result of a crawl job."""

    pages: tuple[CrawledPage, ...]
    """The first page first, then by depth and in the order the links were met."""
    pages_fetched: int
    skipped: tuple[SkippedPage, ...] = ()
    skipped_total: int = 0
    stopped_by: Literal["max_pages", "time", "result_size"] | None = None
    """Which bound ended the crawl while links were left; null when it reached its end."""


def as_json(result: CrawlResult) -> str:
    """The JSON text to store: formats that were not asked for are left out."""
    return result.model_dump_json(exclude_none=True)
