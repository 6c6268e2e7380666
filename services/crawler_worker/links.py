"""URLs in one spelling, so that a page is fetched once however it is linked (RFC 3986, 6)."""

from __future__ import annotations

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 4096
"""Longer ones are traps more often than pages."""


def normalize(url: str) -> str | None:
    """The URL without fragment and credentials, in normal spelling; None when it cannot be one."""
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
    return str(parsed)


def host_of(url: str) -> str:
    """The host a URL names, or an empty text."""
    try:
        return httpx.URL(url).host
    except (httpx.InvalidURL, ValueError):
        return ""
