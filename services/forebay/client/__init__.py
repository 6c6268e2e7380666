"""The typed Python client of the HTTP API; async only.

    async with Client("http://127.0.0.1:8080", api_key) as forebay:
        job = await forebay.search("hydro power", limit=5)
        result = await forebay.result(job)

It needs httpx and pydantic and nothing else of Forebay's own processes. What a call may raise is
drawn in `forebay.client.errors`.
"""

from __future__ import annotations

from forebay.client.client import Client
from forebay.client.errors import (
    ClientError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    JobFailed,
    NotDone,
    NotFound,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from forebay.client.events import JobEvent, JobStream, Moved, Output, Reset
from forebay.client.submissions import JobFilter, JobOptions, WebhookTarget
from forebay.client.views import (
    Attempt,
    Batch,
    BatchResult,
    InvalidPart,
    ItemError,
    Job,
    Page,
    Problem,
    ReplayPreview,
    Usage,
)
from forebay.client.webhook_views import (
    DeliveryAttempt,
    DeliveryPage,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from forebay.client.webhooks import DeliveryFilter, EndpointChange
from forebay.endpoints import WebhookEvent
from forebay.requests import CrawlRequest, LlmRequest, SearchRequest

__all__ = [
    "Attempt",
    "Batch",
    "BatchResult",
    "Client",
    "ClientError",
    "Conflict",
    "CrawlRequest",
    "DeliveryAttempt",
    "DeliveryFilter",
    "DeliveryPage",
    "EndpointChange",
    "Forbidden",
    "Gone",
    "Invalid",
    "InvalidPart",
    "ItemError",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobFilter",
    "JobOptions",
    "JobStream",
    "LlmRequest",
    "Moved",
    "NotDone",
    "NotFound",
    "Output",
    "Page",
    "Problem",
    "RateLimited",
    "Refused",
    "ReplayPreview",
    "Reset",
    "SearchRequest",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "Usage",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookSecret",
    "WebhookTarget",
]
