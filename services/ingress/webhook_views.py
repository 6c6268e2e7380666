"""Webhook endpoints and deliveries as their owner sees them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from forebay.endpoints import Endpoint, default_endpoint_id
from forebay.jobs import Attempt, Job, JobState
from forebay.webhooks.delivery import about
from ingress.problems import Problem, job_problem
from ingress.views import time_text
from ingress.webhooks import DEFAULT

_ENDPOINT: dict[str, Any] = {
    "id": "we_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "object": "webhook_endpoint",
    "url": "https://example.com/hook",
    "events": ["job.succeeded", "job.failed"],
    "description": "The shop",
    "disabled": False,
    "disabled_reason": None,
    "created_at": "2026-11-22T10:00:00.000Z",
}
_DELIVERY: dict[str, Any] = {
    "id": "msg_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "object": "webhook_delivery",
    "state": "retrying",
    "event": "job.succeeded",
    "endpoint_id": "we_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "job_id": "job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "attempts": 1,
    "max_attempts": 10,
    "generation": 1,
    "created_at": "2026-11-22T10:00:00.000Z",
    "next_attempt_at": "2026-11-22T10:00:05.100Z",
    "finished_at": None,
    "error": None,
    "history": [
        {
            "n": 1,
            "generation": 1,
            "outcome": "retry_later",
            "http_status": 500,
            "duration_ms": 12,
            "started_at": "2026-11-22T10:00:00.010Z",
            "error": "The receiver answered 500; only 2xx says that it took the event.",
        }
    ],
}
_NO_CALL = frozenset({"snoozed", "handed_back"})
"""Ends of an attempt that was none, or that goes on."""


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EndpointView(_View):
    """A webhook endpoint."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ENDPOINT]})

    id: str
    """`default` for the one that signs what goes to the URLs that jobs name."""
    object: Literal["webhook_endpoint"]
    url: str | None
    """Null for the default one."""
    events: tuple[str, ...]
    """What it hears of; empty: everything."""
    description: str
    disabled: bool
    disabled_reason: str | None
    """`caller`, or `gone` when the receiver answered 410."""
    created_at: datetime


class EndpointSecretView(EndpointView):
    """A webhook endpoint with the secret that signs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_ENDPOINT, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}]
        }
    )

    secret: str


class EndpointList(_View):
    """All webhook endpoints, the oldest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"object": "list", "data": [_ENDPOINT]}]}
    )

    object: Literal["list"]
    data: tuple[EndpointView, ...]


class DeliveryAttempt(_View):
    """One POST to the receiver."""

    n: int
    generation: int
    outcome: str
    http_status: int | None
    """Null when it did not answer."""
    duration_ms: int
    started_at: datetime
    error: str | None


class DeliveryView(_View):
    """One event for one receiver."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DELIVERY]})

    id: str
    """The `webhook-id` of all its attempts."""
    object: Literal["webhook_delivery"]
    state: JobState
    event: str
    endpoint_id: str
    job_id: str | None
    """Null for a test event."""
    attempts: int
    max_attempts: int
    generation: int
    """Counts redeliveries by hand."""
    created_at: datetime
    next_attempt_at: datetime | None
    """While it waits."""
    finished_at: datetime | None
    error: Problem | None
    history: tuple[DeliveryAttempt, ...]


class DeliveryList(_View):
    """A page of deliveries, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"object": "list", "data": [_DELIVERY], "has_more": False, "next_cursor": None}
            ]
        }
    )

    object: Literal["list"]
    data: tuple[DeliveryView, ...]
    has_more: bool
    next_cursor: str | None
    """For `?cursor=` of the next page."""


def render_endpoint(endpoint: Endpoint, *, with_secret: bool = False) -> bytes:
    """`EndpointView` or `EndpointSecretView` as bytes."""
    secret = {"secret": endpoint.secrets[0].value} if with_secret else {}
    return to_json(_endpoint(endpoint) | secret)


def render_endpoints(endpoints: Sequence[Endpoint]) -> bytes:
    """`EndpointList` as bytes."""
    return to_json({"object": "list", "data": [_endpoint(one) for one in endpoints]})


def render_delivery(delivery: Job) -> bytes:
    """`DeliveryView` as bytes."""
    return to_json(_delivery(delivery))


def render_deliveries(deliveries: Sequence[Job], next_cursor: str | None) -> bytes:
    """`DeliveryList` as bytes."""
    page = {
        "object": "list",
        "data": [_delivery(one) for one in deliveries],
        "has_more": next_cursor is not None,
        "next_cursor": next_cursor,
    }
    return to_json(page)


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": DEFAULT if endpoint.url is None else endpoint.id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "disabled": endpoint.disabled,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": time_text(endpoint.created_at),
    }


def _delivery(delivery: Job) -> dict[str, Any]:
    of = about(delivery)
    is_default = of["endpoint"] == default_endpoint_id(delivery.tenant)
    path = f"/v1/webhook-deliveries/{delivery.id}"
    return {
        "id": delivery.id,
        "object": "webhook_delivery",
        "state": delivery.state,
        "event": of["event"],
        "endpoint_id": DEFAULT if is_default else of["endpoint"],
        "job_id": of.get("job"),
        "attempts": delivery.attempts,
        "max_attempts": delivery.max_attempts,
        "generation": delivery.generation,
        "created_at": time_text(delivery.created_at),
        "next_attempt_at": time_text(delivery.not_before),
        "finished_at": time_text(delivery.finished_at),
        "error": job_problem(delivery.error, path) if delivery.error else None,
        "history": [_attempt(one) for one in delivery.history if one.outcome not in _NO_CALL],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "n": attempt.n,
        "generation": attempt.generation,
        "outcome": attempt.outcome,
        "http_status": attempt.http_status,
        "duration_ms": attempt.provider_ms,
        "started_at": time_text(attempt.started_at),
        "error": attempt.error.detail if attempt.error else None,
    }
