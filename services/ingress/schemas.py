"""What a caller may say when submitting a job: the body of `POST /v1/jobs`.

A field that this version does not honour is not here, so it is refused and not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
)
from pydantic.json_schema import WithJsonSchema

from forebay.batches import MOST_ITEMS
from forebay.endpoints import WebhookEvent
from forebay.jobs import JobKind, Lane, OnUnknown
from forebay.requests import (
    WHOLE,
    CrawlRequest,
    JobInput,
    LlmRequest,
    RequestModel,
    SearchRequest,
    Several,
    WebUrl,
)

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
MAX_METADATA_BYTES = 16 * 1024


def _moment(value: object) -> datetime:
    """An aware time in UTC, in whole milliseconds: what the store keeps, so GET says the same."""
    problem = "Input should be an RFC 3339 time with an offset, such as 2026-11-22T10:02:00Z"
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError(problem)
    try:
        moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


Moment = Annotated[
    datetime,
    PlainValidator(_moment),
    PlainSerializer(datetime.isoformat, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ProviderChoice(RequestModel):
    """Which providers to try."""

    order: Annotated[Several[ProviderName], Field(max_length=8)] = ()
    """Names, the preferred one first; empty leaves it to the worker."""
    allow_fallbacks: bool = True
    """Whether the next name may be taken when one is unknown or not set up here."""


class RetryChoice(RequestModel):
    """How often to try."""

    max_attempts: Annotated[int, Field(ge=1, le=100), WHOLE] | None = None
    """Calls to the provider at most; left out, the setting of the kind."""
    on_unknown: OnUnknown = OnUnknown.RETRY
    """When a worker died during the call: `retry` calls again, `fail` ends the job."""


class WebhookChoice(RequestModel):
    """Where to tell of the job's end; signed with the secret of the endpoint `default`."""

    url: WebUrl
    """Where to POST."""
    events: Annotated[Several[WebhookEvent], Field(max_length=8)] = ()
    """Which ends to tell of; empty: any."""


class Submission(RequestModel):
    """What all jobs have besides their kind and input; everything has a default."""

    lane: Lane = Lane.DEFAULT
    """`interactive` before `default` before `bulk`."""
    provider: ProviderChoice = ProviderChoice()
    not_before: Moment | None = None
    """Wait until then."""
    start_by: Moment | None = None
    """Not started by then: expired."""
    deadline: Moment | None = None
    """Not finished by then: expired."""
    retry: RetryChoice = RetryChoice()
    webhook: WebhookChoice | None = None
    """Where to tell of its end, besides your webhook endpoints."""
    result_ttl_s: Annotated[int, Field(ge=60, le=30 * 86_400), WHOLE] = 86_400
    """How long the finished job and its result are kept, in seconds."""
    tags: Annotated[Several[Tag], Field(max_length=20)] = ()
    """Your own words."""
    metadata: Annotated[dict[str, Any], Field(max_length=1000)] = {}  # noqa: RUF012 - frozen
    """Your own object, given back as it is; at most 16 KiB."""


class SearchSubmission(Submission):
    """A search job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"kind": "search", "input": {"query": "hydro power forebay"}}]
        }
    )
    kind: Literal["search"]
    input: SearchRequest


class CrawlSubmission(Submission):
    """A crawl job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"kind": "crawl", "input": {"url": "https://example.com/"}, "lane": "bulk"}
            ]
        }
    )
    kind: Literal["crawl"]
    input: CrawlRequest


class LlmSubmission(Submission):
    """An LLM job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "llm",
                    "input": {
                        "model": "small",
                        "messages": [{"role": "user", "content": "Say hello."}],
                    },
                    "lane": "interactive",
                    "retry": {"max_attempts": 3, "on_unknown": "fail"},
                    "tags": ["onboarding"],
                    "metadata": {"user": "42"},
                }
            ]
        }
    )
    kind: Literal["llm"]
    input: LlmRequest


JobSubmission = SearchSubmission | CrawlSubmission | LlmSubmission

CustomId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Item(RequestModel):
    custom_id: CustomId | None = None
    """Your own name for the job, unique in the batch."""


class SearchItem(SearchSubmission, _Item):
    """A search job in a batch."""


class CrawlItem(CrawlSubmission, _Item):
    """A crawl job in a batch."""


class LlmItem(LlmSubmission, _Item):
    """An LLM job in a batch."""


BatchItem = SearchItem | CrawlItem | LlmItem

BATCH_ITEM: TypeAdapter[BatchItem] = TypeAdapter(Annotated[BatchItem, Field(discriminator="kind")])
JOB_SUBMISSION: TypeAdapter[JobSubmission] = TypeAdapter(
    Annotated[JobSubmission, Field(discriminator="kind")]
)
INPUTS: Mapping[JobKind, TypeAdapter[JobInput]] = MappingProxyType(
    {
        JobKind.SEARCH: TypeAdapter(SearchRequest),
        JobKind.CRAWL: TypeAdapter(CrawlRequest),
        JobKind.LLM: TypeAdapter(LlmRequest),
    }
)


class OnInvalid(StrEnum):
    """What becomes of a batch with items that are not valid."""

    REJECT = "reject"
    """Nothing is accepted."""
    SKIP = "skip"
    """The others are accepted."""


# Each item is read by itself, so that one that is wrong spoils no other.
_JOBS_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_ITEMS,
    "items": {
        "oneOf": [
            {"$ref": f"#/components/schemas/{item.__name__}"}
            for item in (SearchItem, CrawlItem, LlmItem)
        ]
    },
}


class BatchSubmission(RequestModel):
    """Many jobs at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "jobs": [
                        {
                            "custom_id": "first",
                            "kind": "search",
                            "input": {"query": "hydro power forebay"},
                        },
                        {"custom_id": "second", "kind": "search", "input": {"query": "weir"}},
                    ],
                    "on_invalid": "skip",
                    "metadata": {"import": "2026-11"},
                }
            ]
        }
    )

    jobs: Annotated[
        tuple[Any, ...], Field(min_length=1, max_length=MOST_ITEMS), WithJsonSchema(_JOBS_SCHEMA)
    ]
    """Up to 10 000, each as in `POST /v1/jobs`, and with a `custom_id` if you like."""
    on_invalid: OnInvalid = OnInvalid.REJECT
    """What happens when some of them are not valid."""
    metadata: Annotated[dict[str, Any], Field(max_length=1000)] = {}  # noqa: RUF012 - frozen
    """Your own object, given back as it is; at most 16 KiB."""


BATCH_SUBMISSION: TypeAdapter[BatchSubmission] = TypeAdapter(BatchSubmission)


def with_defaults(request: JobInput) -> JobSubmission:
    """The submission of an input alone: the body of `POST /v1/search` and its kin."""
    match request:
        case SearchRequest():
            return SearchSubmission(kind="search", input=request)
        case CrawlRequest():
            return CrawlSubmission(kind="crawl", input=request)
        case LlmRequest():
            return LlmSubmission(kind="llm", input=request)
