"""Texts that meant something to some part of some system, and where a request may hold them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

ODD = (
    "$ne",
    "$where",
    "$$NOW",
    "{$gt: ''}",
    '{"$ne": null}',
    "a.b.$[].c",
    ".",
    "__proto__",
    "a\x00b",
    "\x00",
    "\ud800",
    "\udc00\ud800",
    "dam \ud83d",
    "\ufeffbom",
    "\u202egnol\u202c",
    "\u2028\u2029",
    "e\u0301 \u00e9 \ufb03",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff\uffff\ufffe",
    "\x01\x1b[31m\x7f\x85",
    "' OR 1=1 --",
    "{{7*7}}${7*7}<%= 7 %>",
    "%00%ff%2e%2e/",
    "\r\nX-Injected: 1",
)

SEARCH: dict[str, Any] = {
    "query": "dam",
    "limit": 3,
    "language": "en",
    "region": "NO",
    "freshness": "day",
    "site": "example.com",
}
CRAWL: dict[str, Any] = {
    "url": "https://example.com/",
    "formats": ["text"],
    "headers": {"X-Mine": "yes"},
    "follow": {"max_depth": 1},
}
LLM: dict[str, Any] = {
    "model": "small",
    "messages": [
        {"role": "user", "name": "ann", "content": "Say hello."},
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "https://e.com/a", "detail": "low"}}
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ],
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
INPUTS = {"search": SEARCH, "crawl": CRAWL, "llm": LLM}
WITH_ALL: dict[str, Any] = {
    "lane": "bulk",
    "provider": {"order": ["searxng"]},
    "not_before": "2090-01-01T00:00:00Z",
    "start_by": "2090-01-02T00:00:00Z",
    "deadline": "2090-01-03T00:00:00Z",
    "retry": {"on_unknown": "fail"},
    "tags": ["onboarding"],
    "metadata": {"user": "42", "deep": {"list": ["x"]}},
}
REPLAY: dict[str, Any] = {
    "state": ["failed"],
    "kind": ["search"],
    "tag": ["onboarding"],
    "provider": ["searxng"],
    "error_code": ["provider_error"],
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": "2026-01-02T00:00:00Z",
    "metadata": {"user": "42"},
}


def submissions() -> dict[str, Any]:
    """A body for each kind with every field that it takes."""
    return {kind: {"kind": kind, "input": body, **WITH_ALL} for kind, body in INPUTS.items()}


def strings(body: Any, at: Path = ()) -> Iterator[Path]:
    """Where the strings of a body are."""
    if isinstance(body, str):
        yield at
    elif isinstance(body, dict):
        for name, value in body.items():
            yield from strings(value, (*at, name))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from strings(value, (*at, index))


def names(body: Any, at: Path = ()) -> Iterator[Path]:
    """Where the names of fields are."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield (*at, name)
            yield from names(value, (*at, name))
    elif isinstance(body, list):
        for index, value in enumerate(body):
            yield from names(value, (*at, index))


def found(body: Any, path: Path) -> Any:
    """What is there."""
    for step in path:
        body = body[step]
    return body


def with_text(body: Any, path: Path, text: str) -> Any:
    """A copy with this string in that place."""
    changed = copy.deepcopy(body)
    found(changed, path[:-1])[path[-1]] = text
    return changed


def with_name(body: Any, path: Path, name: str) -> Any:
    """A copy in which that field is called so."""
    changed = copy.deepcopy(body)
    inside = found(changed, path[:-1])
    inside[name] = inside.pop(path[-1])
    return changed


def written(body: Any) -> Iterator[bytes]:
    """As JSON: with escapes, and as UTF-8; a lone surrogate as the bytes that some write for it."""
    yield json.dumps(body).encode()
    yield json.dumps(body, ensure_ascii=False).encode(errors="surrogatepass")
