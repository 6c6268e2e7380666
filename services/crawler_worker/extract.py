"""From a page's bytes to what was asked for: processor work, to be run beside the loop.

Links, title and metadata come from selectolax (a page of the Python manual takes 9 ms), the main
text from trafilatura (0.4 s for 290 KB). Metadata is only what the page declares: trafilatura's
search for a date takes 0.7 s on the same page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from urllib.parse import urljoin, urlsplit

import trafilatura
from selectolax.lexbor import LexborHTMLParser

from crawler_worker.charset import decode
from crawler_worker.links import Link, read_link
from crawler_worker.nesting import is_too_deep
from crawler_worker.visit import PageUnreadable
from forebay.requests import CrawlFormat

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = frozenset({"text/plain", "text/markdown"})
MAX_LINKS = 10_000
"""Links kept of one page."""
_MAX_PARSED = 3 * 1024 * 1024
"""Characters of HTML that trafilatura is given: it takes 1.4 s a megabyte. A larger page gives its
plain text instead."""
_NOISE = ["script", "style", "noscript", "template", "iframe", "object", "embed", "frame"]
_META_NAMES = {
    "description": ("description", "og:description", "twitter:description"),
    "author": ("author", "article:author", "dc.creator"),
    "site_name": ("og:site_name", "application-name"),
    "published": ("article:published_time", "date", "dc.date", "datepublished"),
    "modified": ("article:modified_time", "last-modified", "og:updated_time"),
    "image": ("og:image", "twitter:image"),
    "keywords": ("keywords",),
    "type": ("og:type",),
    "generator": ("generator",),
}


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a page holds; a format that was not asked for is None, but links are always there."""

    title: str
    links: tuple[Link, ...]
    markdown: str | None = None
    text: str | None = None
    html: str | None = None
    metadata: dict[str, str] | None = None


def media_type(header: str) -> tuple[str, str | None]:
    """The type and the charset of a Content-Type header; the type is empty when it names none."""
    message = Message()
    message["content-type"] = header
    kind = header.partition(";")[0].strip().lower()
    charset = message.get_param("charset")
    return kind, charset if isinstance(charset, str) else None


def extract(body: bytes, content_type: str, url: str, formats: Iterable[CrawlFormat]) -> Extracted:
    """Read a page of one of `HTML_TYPES` or `TEXT_TYPES`; `url` is the base of its links.

    Raises `PageUnreadable`.
    """
    kind, charset = media_type(content_type)
    text = decode(body, charset)
    wanted = frozenset(formats)
    if kind in TEXT_TYPES or (not kind and not looks_like_html(text)):
        return _plain(text, wanted)
    return extract_html(text, url, wanted)


def looks_like_html(text: str) -> bool:
    """Whether a page that does not say what it is begins like HTML."""
    head = text[:1024].lstrip().lower()
    return head.startswith(("<!doctype html", "<html", "<head", "<body", "<!--", "<?xml"))


def _plain(text: str, wanted: frozenset[CrawlFormat]) -> Extracted:
    return Extracted(
        title="",
        links=(),
        markdown=text if CrawlFormat.MARKDOWN in wanted else None,
        text=text if CrawlFormat.TEXT in wanted else None,
        html=None,
        metadata={} if CrawlFormat.METADATA in wanted else None,
    )


def extract_html(html: str, url: str, wanted: frozenset[CrawlFormat]) -> Extracted:
    """Read an HTML page that is text already; raises `PageUnreadable`."""
    if is_too_deep(html):
        raise PageUnreadable("The page's elements are nested too deeply to be read.")
    tree = LexborHTMLParser(html)
    title = _title(tree)
    links = _links(tree, url)
    metadata = _metadata(tree, url) if CrawlFormat.METADATA in wanted else None
    tree.strip_tags(_NOISE, recursive=True)
    return Extracted(
        title=title,
        links=links,
        markdown=_main(html, tree, "markdown") if CrawlFormat.MARKDOWN in wanted else None,
        text=_main(html, tree, "txt") if CrawlFormat.TEXT in wanted else None,
        html=(tree.html or "") if CrawlFormat.HTML in wanted else None,
        metadata=metadata,
    )


def _main(html: str, tree: LexborHTMLParser, output: str) -> str:
    """The main text; the whole plain text when no main part stands out or the page is too large."""
    marked_up = output == "markdown"
    found = None
    if len(html) <= _MAX_PARSED:
        found = trafilatura.extract(
            html,
            fast=True,
            output_format=output,
            include_comments=False,
            include_tables=True,
            include_formatting=marked_up,
            include_links=marked_up,
        )
    if found:
        return found
    body = tree.body
    return "" if body is None else body.text(separator="\n", strip=True)


def _title(tree: LexborHTMLParser) -> str:
    # An <svg> may have a title of its own, so the head's comes first.
    for selector in ("head > title", "title", "h1"):
        node = tree.css_first(selector)
        text = "" if node is None else " ".join(node.text().split())
        if text:
            return text
    return ""


def _links(tree: LexborHTMLParser, url: str) -> tuple[Link, ...]:
    base = _base(tree, url)
    found: dict[Link, None] = {}
    for node in tree.css("a[href], area[href]"):
        link = _absolute(base, node.attributes.get("href") or "")
        if link is not None:
            found[link] = None
        if len(found) >= MAX_LINKS:
            break
    return tuple(found)


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    named = None if node is None else _absolute(url, node.attributes.get("href") or "")
    return url if named is None else named.url


def _absolute(base: str, href: str) -> Link | None:
    try:
        joined = urljoin(base, href.strip())
        if urlsplit(joined).scheme not in {"http", "https"}:
            return None
        return read_link(joined)
    except ValueError:
        return None


def _metadata(tree: LexborHTMLParser, url: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for node in tree.css("meta[content]"):
        attributes = node.attributes
        name = attributes.get("name") or attributes.get("property") or attributes.get("itemprop")
        content = " ".join((attributes.get("content") or "").split())
        if name and content:
            said.setdefault(name.lower(), content)
    found = {
        key: next((said[name] for name in names if name in said), "")
        for key, names in _META_NAMES.items()
    }
    root = tree.root
    found["language"] = (None if root is None else root.attributes.get("lang")) or ""
    canonical = tree.css_first('link[rel~="canonical"][href]')
    if canonical is not None:
        link = _absolute(url, canonical.attributes.get("href") or "")
        found["canonical"] = "" if link is None else link.url
    return {key: value for key, value in found.items() if value}
