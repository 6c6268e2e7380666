"""URLs in one spelling, so that a page is fetched once however it is linked (RFC 3986, 6)."""

from __future__ import annotations

from typing import NamedTuple

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 4096
"""Longer ones are traps more often than pages."""


class Link(NamedTuple):
    """A URL in normal spelling with its host, taken apart once and not by each who reads it."""

    url: str
    host: str


def read_link(url: str) -> Link | None:
    """The link without fragment, in normal spelling; None when it cannot be followed."""
    if len(url) > MAX_URL:
        return None
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return None
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host or parsed.userinfo:
        return None
    # httpx lowers scheme and host, drops the default port and escapes what must be escaped.
    raw_path = parsed.raw_path or b"/"
    path, mark, query = raw_path.partition(b"?")
    parsed = parsed.copy_with(fragment=None, raw_path=path + (mark + query if query else b""))
    return Link(str(parsed), parsed.host)


def normalize(url: str) -> str | None:
    """The URL of `read_link`."""
    link = read_link(url)
    return None if link is None else link.url


def host_of(url: str) -> str:
    """The host a URL names, or an empty text."""
    try:
        return httpx.URL(url).host
    except (httpx.InvalidURL, ValueError):
        return ""
