"""The validated inputs, one model per kind of job. They are the body of `POST /v1/<kind>`."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.json_schema import WithJsonSchema

from forebay.jobs import JobKind

MIB = 1024 * 1024


class RequestModel(BaseModel):
    """Frozen, and an unknown field is an error: a typo must not be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands last at a field of integers: in JSON 5.0 is the integer 5 (JSON Schema Core, 4.2.3)."""


def _is_web_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"}:
        raise ValueError("the URL scheme must be http or https")
    if not parts.hostname:
        raise ValueError("the URL must name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL must not carry credentials; use `headers`")
    if any(ord(c) <= 32 or ord(c) == 127 for c in value):
        raise ValueError("the URL must not hold spaces or control characters")
    _ = parts.port  # raises ValueError when it is not a port
    return value


WebUrl = Annotated[
    str,
    StringConstraints(max_length=4096),
    AfterValidator(_is_web_url),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": 4096}),
]
_BLANK = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, which is stripped. `\\s` is another set in each language that has it."""
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    Field(json_schema_extra={"pattern": f"[^{_BLANK}]"}),
]
"""A text with something to read in it."""

Item = TypeVar("Item")
Several = Annotated[tuple[Item, ...], Field(fail_fast=True)]
"""A list that is judged up to its first wrong element: a megabyte of wrong ones costs half a second
otherwise, and a length limit comes too late, because it counts the elements that are right."""


class Freshness(StrEnum):
    """How recent a search result must be."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class SearchRequest(RequestModel):
    """A web search."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "hydro power forebay", "limit": 5}]}
    )

    query: Annotated[Text, StringConstraints(max_length=2048)]
    """What to search for."""
    limit: Annotated[int, Field(ge=1, le=50), WHOLE] = 10
    """How many results at most."""
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z]{2,4})?$")] | None = (
        None
    )
    """Language tag such as `en` or `pt-BR`."""
    region: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$")] | None = None
    """Country code, ISO 3166-1 alpha-2, such as `US`."""
    freshness: Freshness | None = None
    """Only results not older than this."""
    site: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,253}$")] | None = None
    """Only results of this host."""


class CrawlFormat(StrEnum):
    """What to make of a page."""

    MARKDOWN = "markdown"
    TEXT = "text"
    HTML = "html"
    LINKS = "links"
    METADATA = "metadata"


class Follow(RequestModel):
    """How far to follow the links of a page."""

    max_depth: Annotated[int, Field(ge=0, le=10), WHOLE] = 1
    """Links away from the first page; 0 is the first page alone."""
    max_pages: Annotated[int, Field(ge=1, le=1000), WHOLE] = 10
    """Pages in all, the first one included."""
    same_host: bool = True
    """Stay on the host of the first page."""


_HEADER_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$"
_HEADER_VALUE = r"^[\t -~]{0,8192}$"
"""Without the bytes above ASCII, which RFC 9110, 5.5 calls obsolete and httpx refuses to send."""
_OUR_HEADERS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "accept-encoding", "expect"),
        # Hop-by-hop: RFC 9110, 7.6.1.
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
        *("proxy-authenticate", "proxy-authorization"),
    }
)

_HEADERS_SCHEMA = {
    "type": "object",
    "maxProperties": 32,
    "propertyNames": {"pattern": _HEADER_NAME},
    "additionalProperties": {"type": "string", "pattern": _HEADER_VALUE},
}


def _are_callers_headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not re.fullmatch(_HEADER_NAME, name):
            raise ValueError("a header's name must be a token (RFC 9110, 5.6.2)")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"the header {name} is the connection's own; leave it out")
        if not re.fullmatch(_HEADER_VALUE, text):
            raise ValueError(f"the header {name} holds characters that a header cannot carry")
    return value


def _is_false(value: bool) -> bool:
    if value:
        raise ValueError("this version runs no scripts; leave it out")
    return value


# Not `Literal[False]`, which also takes 0.
Never = Annotated[bool, AfterValidator(_is_false), WithJsonSchema({"const": False})]


class CrawlRequest(RequestModel):
    """A page to fetch and read, and how far to follow its links."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://example.com/", "formats": ["markdown", "links"]}]
        }
    )

    url: WebUrl
    """Where to begin, http or https."""
    formats: Annotated[Several[CrawlFormat], Field(min_length=1, max_length=8)] = (
        CrawlFormat.MARKDOWN,
    )
    """What to make of each page."""
    render: Never = False
    """Whether to run the page's scripts in a browser. Not offered by this version."""
    max_bytes: Annotated[int, Field(ge=1024, le=50 * MIB), WHOLE] = 5 * MIB
    """Largest page, in bytes, counted on the wire and again after decoding."""
    respect_robots: bool = True
    """Obey the site's robots.txt."""
    headers: Annotated[
        dict[str, str],
        Field(max_length=32),
        AfterValidator(_are_callers_headers),
        WithJsonSchema(_HEADERS_SCHEMA),
    ] = {}
    """Headers to send along, such as `Accept-Language`. The connection's own (`Host`, `Connection`,
    `Content-Length`, `Accept-Encoding` and the like) are refused."""
    follow: Follow | None = None
    """Follow links; leave out to fetch one page."""


class TextPart(RequestModel):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ImageUrl(RequestModel):
    """Where the picture is: https or a data URL."""

    url: Annotated[str, StringConstraints(pattern=r"^(https?://|data:image/)")]
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(RequestModel):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class FunctionCall(RequestModel):
    """The function a model asked for; `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


class ToolCall(RequestModel):
    """A tool the model asked for."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(RequestModel):
    """One message of a conversation, in the shape of chat completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: (
        str
        | Annotated[
            Several[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
            Field(max_length=1000),
        ]
        | None
    ) = None
    name: str | None = None
    tool_calls: Annotated[Several[ToolCall], Field(max_length=512)] | None = None
    tool_call_id: str | None = None


class LlmRequest(RequestModel):
    """A conversation to complete, in the shape of chat completions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
            ]
        }
    )

    model: Annotated[Text, StringConstraints(max_length=256)]
    """The provider's name of the model."""
    messages: Annotated[Several[Message], Field(min_length=1, max_length=10_000)]
    """The conversation so far."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = None
    """Longest answer, in tokens."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    response_format: dict[str, Any] | None = None
    """As the provider documents it, for example `{"type": "json_object"}`."""
    tools: Annotated[Several[dict[str, Any]], Field(max_length=512)] | None = None
    """Tools the model may ask for, as JSON schema."""
    stream: bool = False
    """Take the answer from the provider token by token. The stored result is the same."""


JobInput = SearchRequest | CrawlRequest | LlmRequest

INPUT_MODELS: dict[JobKind, type[SearchRequest] | type[CrawlRequest] | type[LlmRequest]] = {
    JobKind.SEARCH: SearchRequest,
    JobKind.CRAWL: CrawlRequest,
    JobKind.LLM: LlmRequest,
}
