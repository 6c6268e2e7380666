"""Requests that web pages make: in open mode none of them may.

Theory of operation. Open mode lets in whoever reaches its address, on loopback the programs of this
machine. One of them is the browser, and it sends requests for every page it shows. A page of
another site may post what a form can post (cross-site request forgery); the browser says so in
`Sec-Fetch-Site`, older ones and those on plain HTTP in `Origin` alone. A page whose own name begins
to resolve to 127.0.0.1 (DNS rebinding) may do everything and read the answers too; the browser
takes it for the same site then, but the name is still in `Host`.

Limit: where other names than those of loopback are served on purpose, `Host` says nothing, and a
page with such a name cannot be told from ours.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

_OTHERS = frozenset({"cross-site", "same-site"})
"""A sibling host or another port of this machine is somebody else too."""


def is_ours(headers: Headers) -> bool:
    """Whether a request was sent to this machine by a name or address of loopback."""
    hosts = headers.getlist("host")
    return len(hosts) == 1 and _is_loopback(hosts[0])


def is_of_another_page(headers: Headers, *, any_host: bool) -> bool:
    """Whether a web page sent it that is not of this service.

    With `any_host` our own page may have another name than those of loopback.
    """
    site = headers.get("sec-fetch-site")
    if site in _OTHERS:
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    authority = origin.partition("://")[2]
    if _is_loopback(authority):
        return False
    # A proxy may have changed `Host`; what the browser said of the site is still true then.
    is_own = site == "same-origin" or authority == headers.get("host")
    return not (any_host and is_own)


def _is_loopback(authority: str) -> bool:
    """Whether a host, with any port or none, is this machine."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
