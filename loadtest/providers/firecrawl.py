"""The Firecrawl-compatible scrape endpoint, `POST /v1/scrape` and `/v2/scrape`.

Every URL has a page, by the same text as the simulated site's; a path `/status/<code>` is
reported in the metadata, as Firecrawl reports what the target answered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from aiohttp import web

from loadtest.providers.behaviour import Kind
from loadtest.providers.exchange import Answer, Ask, Refused, bearer, json_answer, json_object
from loadtest.providers.pages import as_html, as_markdown, page
from loadtest.providers.text import token

_STATUS_PATH = re.compile(r"^/status/([1-5]\d\d)$")


@dataclass(frozen=True, slots=True)
class Firecrawl:
    """Answers a scrape with the formats asked for."""

    seed: int
    name: str = "firecrawl"
    kind: Kind = Kind.CRAWL
    auth_status: int = 401

    def key_of(self, request: web.Request) -> str | None:
        """Return the bearer token."""
        return bearer(request)

    async def read(self, request: web.Request) -> Ask:
        """Understand a scrape; raises Refused with 400."""
        body = await json_object(request)
        url = body.get("url")
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise Refused(400, "Bad Request: Invalid URL")
        formats = _formats(body.get("formats"))
        return Ask(
            text=f"{parts.netloc}{parts.path}",
            scope=f"{parts.netloc}{parts.path}",
            answer=lambda: json_answer(self._document(str(url), formats)),
            words=dict(parse_qsl(parts.query)).get("simulate", ""),
        )

    def error(self, status: int, message: str) -> Answer:
        """Word an error as Firecrawl does."""
        spoken = "Unauthorized: Invalid token" if status == 401 else message
        return json_answer({"success": False, "error": spoken}, status)

    def _document(self, url: str, formats: set[str]) -> dict[str, Any]:
        parts = urlsplit(url)
        content = page(self.seed, parts.path or "/")
        match = _STATUS_PATH.match(parts.path)
        data: dict[str, Any] = {}
        if "markdown" in formats:
            data["markdown"] = as_markdown(content)
        if "html" in formats:
            data["html"] = as_html(content)
        if "rawHtml" in formats:
            data["rawHtml"] = as_html(content)
        if "links" in formats:
            data["links"] = [urljoin(url, target) for target, _ in content.links]
        data["metadata"] = {
            "title": content.title,
            "description": content.description,
            "language": "en",
            "sourceURL": url,
            "url": url,
            "statusCode": int(match[1]) if match else 200,
            "contentType": "text/html; charset=utf-8",
            "scrapeId": token(self.seed, url, length=32),
            "proxyUsed": "basic",
            "cacheState": "miss",
            "creditsUsed": 1,
        }
        return {"success": True, "data": data}


def _formats(asked: object) -> set[str]:
    """Read `formats`: names, or since v2 objects with a `type`; markdown when none are named."""
    if not asked:
        return {"markdown"}
    if not isinstance(asked, list):
        raise Refused(400, "Bad Request: formats must be a list")
    return {str(item.get("type") if isinstance(item, dict) else item) for item in asked}
