"""What a caller may say: the fields of the HTTP API as keyword arguments, and the bodies of them.

The service judges them, not the client: one place of validation, and an old client can be told what
only a new server knows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict

from pydantic_core import to_jsonable_python

from forebay.jobs import JobKind
from forebay.requests import INPUT_MODELS, CrawlRequest, JobInput, LlmRequest, SearchRequest

Json = Mapping[str, Any]
BatchItem = JobInput | Json | bytes
"""A job of a batch: an input alone, a whole submission, or a line of JSON as it is."""
Several = str | Sequence[str]


class WebhookTarget(TypedDict, total=False):
    """Where to tell of a job's end, besides your webhook endpoints."""

    url: Required[str]
    events: Sequence[str]
    """Such as `job.failed`; left out: any end."""


class JobOptions(TypedDict, total=False):
    """What every job has besides its kind and input; docs/http-api.md says what each means."""

    lane: Literal["interactive", "default", "bulk"]
    provider: Json
    not_before: datetime
    start_by: datetime
    deadline: datetime
    retry: Json
    webhook: WebhookTarget
    result_ttl_s: int
    tags: Sequence[str]
    metadata: Json


class SendOptions(TypedDict, total=False):
    """How a submission is sent."""

    idempotency_key: str
    """Made by the client if left out, so that a repeat is the same job."""
    wait_s: float
    """Let the answer wait for the end of the job, for so many seconds at most."""


class SubmitOptions(JobOptions, SendOptions, total=False):
    """Both."""


class SearchOptions(SubmitOptions, total=False):
    """Of a search."""

    limit: int
    language: str
    region: str
    freshness: Literal["day", "week", "month", "year"]
    site: str


class CrawlOptions(SubmitOptions, total=False):
    """Of a crawl."""

    formats: Sequence[Literal["markdown", "text", "html", "links", "metadata"]]
    max_bytes: int
    respect_robots: bool
    headers: Mapping[str, str]
    follow: Json


class LlmOptions(SubmitOptions, total=False):
    """Of a conversation."""

    max_tokens: int
    temperature: float
    response_format: Json
    tools: Sequence[Json]
    stream: bool


class ReplayFilter(TypedDict, total=False):
    """Which jobs run again: all filters must hold, of one with several values any."""

    state: Several
    kind: Several
    tag: Several
    provider: Several
    error_code: Several
    dead_lettered: bool
    created_after: datetime
    created_before: datetime


class JobFilter(ReplayFilter, total=False):
    """Which jobs are listed, and how."""

    batch_id: str
    order: Literal["newest", "oldest"]
    include: Several


def text_of(value: object) -> bytes:
    """JSON; what is not ASCII is escaped, because a text may hold what UTF-8 cannot."""
    return json.dumps(value, default=to_jsonable_python, separators=(",", ":")).encode()


def submission(work: JobInput | str, fields: Json | None, options: Json) -> Json:
    """The body of `POST /v1/jobs`."""
    if isinstance(work, str):
        return {"kind": work, "input": dict(fields or {}), **options}
    return {"kind": kind_of(work), "input": said(work), **options}


def kind_of(request: JobInput) -> str:
    """The kind of an input."""
    match request:
        case SearchRequest():
            return JobKind.SEARCH.value
        case CrawlRequest():
            return JobKind.CRAWL.value
        case LlmRequest():
            return JobKind.LLM.value


def said(request: JobInput) -> Json:
    """The fields that were given: the defaults are the service's own."""
    return request.model_dump(mode="json", exclude_unset=True)


def parted(kind: JobKind, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the input, and the others."""
    names = INPUT_MODELS[kind].model_fields.keys()
    mine = {name: value for name, value in options.items() if name in names}
    return mine, {name: value for name, value in options.items() if name not in names}


def query_of(filters: Mapping[str, Any]) -> dict[str, list[str]]:
    """A filter as the query of a list."""
    return {name: [_word(one) for one in _each(value)] for name, value in filters.items()}


def listed(filters: Mapping[str, Any]) -> Json:
    """A filter as the body of a replay, where what can be several is a list."""
    several = {"state", "kind", "tag", "provider", "error_code"}
    return {
        name: list(_each(value)) if name in several else value for name, value in filters.items()
    }


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


class BatchBody:
    """The lines of a batch, made while they are sent, and kept: a repeat must say the same."""

    def __init__(self, items: Iterable[BatchItem] | AsyncIterable[BatchItem]) -> None:
        self._rest = _lines(items)
        self._made: list[bytes] = []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Those that were made, then the others."""
        for line in self._made:
            yield line
        async for line in self._rest:
            self._made.append(line)
            yield line


async def _lines(items: Iterable[BatchItem] | AsyncIterable[BatchItem]) -> AsyncIterator[bytes]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield _line(item)
    else:
        for item in items:
            yield _line(item)


def _line(item: BatchItem) -> bytes:
    if isinstance(item, bytes):
        return item.rstrip(b"\r\n") + b"\n"
    body = item if isinstance(item, Mapping) else submission(item, None, {})
    return text_of(body) + b"\n"
