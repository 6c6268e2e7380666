"""The simulated web site: good pages, and every kind of bad one a crawler meets.

The paths are listed in README.md. Only good pages meet the seed's faults; the others are a fault
already, and robots.txt is the site's word, not weather.
"""

from __future__ import annotations

import gzip
import html
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import unquote

from aiohttp import web

from loadtest.providers.behaviour import Kind
from loadtest.providers.directives import Action
from loadtest.providers.exchange import Answer, Ask
from loadtest.providers.pages import PAGES, as_html, page, page_paths

_HTML = "text/html; charset=utf-8"
_ACCENTS = "Café déjà vu, naïve façade, Öl und Übung."
_CHAIN_LIMIT = 50
_BOMB_MIB = 256
_REDIRECTS = {
    "loop": "/redirect/loop-back",
    "loop-back": "/redirect/loop",
    "forbidden": "http://169.254.169.254/latest/meta-data/",
    "private": "http://10.0.0.1/",
    "file": "file:///etc/passwd",
    "robots": "/private/1",
    "relative": "../pages/2",
}
_ACTIONS = {"drip": Action.DRIP, "huge": Action.HUGE, "endless": Action.ENDLESS}


@dataclass(frozen=True, slots=True)
class Site:
    """Serves every path of the site; what is not there is a 404 page."""

    seed: int
    crawl_delay_s: float
    name: str = "site"
    kind: Kind = Kind.CRAWL
    auth_status: int = 401

    def key_of(self, request: web.Request) -> str | None:  # noqa: ARG002 - the protocol's form
        """Return any text: a web site asks for no key."""
        return "none"

    async def read(self, request: web.Request) -> Ask:
        """Find the page; never refuses."""
        path = unquote(request.path)
        first, _, rest = path.strip("/").partition("/")
        good = self._good(first, rest)
        answer = good or self._special(request, first, rest)
        return Ask(
            text=path,
            scope=path,
            answer=answer,
            words=request.query.get("simulate", ""),
            action=_ACTIONS.get(first) if not rest else None,
            faults=good is not None,
        )

    def error(self, status: int, message: str) -> Answer:
        """Word an error as a small HTML page."""
        text = f"<!doctype html><title>{status}</title><h1>{status}</h1><p>{html.escape(message)}"
        return Answer(status=status, content_type=_HTML, body=text.encode())

    def _good(self, first: str, rest: str) -> Callable[[], Answer] | None:
        path = f"/{first}/{rest}" if rest else f"/{first}"
        numbered = first == "pages" and rest.isdigit() and 1 <= int(rest) <= PAGES
        plain = first in {"", "about"} and not rest
        return (lambda: self._page(path)) if numbered or plain or first == "private" else None

    def _page(self, path: str, **headers: str) -> Answer:
        text = as_html(page(self.seed, path))
        return Answer(content_type=_HTML, body=text.encode(), headers=headers)

    def _special(self, request: web.Request, first: str, rest: str) -> Callable[[], Answer]:
        match first:
            case "robots.txt":
                return lambda: self._robots(request.host)
            case "sitemap.xml":
                return lambda: _sitemap(request.host)
            case "redirect":
                return lambda: self._redirect(rest)
            case "charset":
                return lambda: self._charset(rest)
            case "type":
                return lambda: self._typed(rest)
            case "status" if rest.isdigit() and 200 <= int(rest) <= 599:
                return lambda: self._status(int(rest), request.query.get("retry_after"))
            case "gzip" | "bomb" if not rest:
                return lambda: self._compressed(first)
            case "drip" | "huge" | "endless" if not rest:
                return lambda: self._page("/about")
            case _:
                return lambda: self.error(404, "No such page.")

    def _robots(self, host: str) -> Answer:
        lines = (
            "User-agent: slowbot",
            "Crawl-delay: 5",
            "Disallow: /private/",
            "",
            "User-agent: bannedbot",
            "Disallow: /",
            "",
            "User-agent: *",
            f"Crawl-delay: {self.crawl_delay_s:g}",
            "Disallow: /private/",
            "",
            f"Sitemap: http://{host}/sitemap.xml",
            "",
        )
        return Answer(content_type="text/plain; charset=utf-8", body="\n".join(lines).encode())

    def _redirect(self, name: str) -> Answer:
        steps = name.removeprefix("chain/")
        if steps != name and steps.isdigit() and int(steps) <= _CHAIN_LIMIT:
            left = int(steps) - 1
            target = f"/redirect/chain/{left}" if left > 0 else "/pages/1"
        elif name in _REDIRECTS:
            target = _REDIRECTS[name]
        else:
            return self.error(404, "No such page.")
        return Answer(status=302, content_type=_HTML, headers={"Location": target})

    def _charset(self, name: str) -> Answer:
        content = page(self.seed, "/about")
        match name:
            case "latin1-header":
                body = as_html(content, "", _ACCENTS).encode("latin-1")
                return Answer(content_type="text/html; charset=ISO-8859-1", body=body)
            case "latin1-meta":
                body = as_html(content, "iso-8859-1", _ACCENTS).encode("latin-1")
                return Answer(content_type="text/html", body=body)
            case "utf8-bom":
                body = as_html(content, "", _ACCENTS).encode("utf-8-sig")
                return Answer(content_type="text/html", body=body)
            case "lying":
                body = as_html(content, "utf-8", _ACCENTS).encode("latin-1")
                return Answer(content_type=_HTML, body=body)
            case _:
                return self.error(404, "No such page.")

    def _typed(self, name: str) -> Answer:
        text = as_html(page(self.seed, "/about")).encode()
        match name:
            case "pdf":
                return Answer(content_type="application/pdf", body=b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
            case "png":
                return Answer(content_type="image/png", body=b"\x89PNG\r\n\x1a\n" + bytes(64))
            case "plain":
                return Answer(content_type="text/plain; charset=utf-8", body=b"Just text.\n")
            case "html-as-json":
                return Answer(content_type="application/json", body=text)
            case "html-as-binary":
                return Answer(content_type="application/octet-stream", body=text)
            case _:
                return self.error(404, "No such page.")

    def _status(self, status: int, retry_after: str | None) -> Answer:
        answer = self.error(status, "As asked for.")
        wait = retry_after or ("1" if status in {429, 503} else None)
        headers = {"Retry-After": wait} if wait else {}
        return Answer(status, answer.content_type, answer.body, headers=headers)

    def _compressed(self, name: str) -> Answer:
        text = as_html(page(self.seed, "/about")).encode()
        body = _bomb() if name == "bomb" else gzip.compress(text, mtime=0)
        return Answer(content_type=_HTML, body=body, headers={"Content-Encoding": "gzip"})


def _sitemap(host: str) -> Answer:
    urls = "".join(f"<url><loc>http://{host}{path}</loc></url>" for path in page_paths())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>'
    )
    return Answer(content_type="application/xml", body=text.encode())


@cache
def _bomb() -> bytes:
    """Return a valid gzip member of 256 MiB of blanks in about 256 KiB.

    A block that ends in a full flush refers to nothing before it, so it can be repeated
    instead of compressed again (RFC 1951; the check sum is the real one).
    """
    block = b" " * (1024 * 1024)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    squeezed = squeezer.compress(block) + squeezer.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(_BOMB_MIB):
        check = zlib.crc32(block, check)
    size = _BOMB_MIB * len(block)
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    trailer = check.to_bytes(4, "little") + size.to_bytes(4, "little")
    return header + squeezed * _BOMB_MIB + b"\x03\x00" + trailer
