"""A delivery: the webhook job that tells one receiver of one event.

Its id is the `webhook-id` of all its attempts. It follows from what is told to whom, so making a
delivery twice makes one. It is found again by its tags: they say what it is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from uuid_utils import uuid7

from forebay.endpoints import TEST_EVENT, Endpoint, WebhookEvent
from forebay.jobs import DELIVERY_PREFIX, Job, JobEnd, JobKind, JobState, Lane
from forebay.requests import RequestModel, WebUrl
from forebay.retry import RetrySchedule

_MINUTE, _HOUR = 60.0, 3600.0
SCHEDULE = RetrySchedule(
    (5.0, 5 * _MINUTE, 30 * _MINUTE, *(hours * _HOUR for hours in (2, 5, 10, 14, 20, 24)))
)
"""The waits between the attempts, as Standard Webhooks recommends them: three days in all."""
MOST_ATTEMPTS = len(SCHEDULE.waits_s) + 1
KEPT_S = 7 * 86_400
"""How long a delivery that has its end is kept in the log, in seconds."""


class DeliveryRequest(RequestModel):
    """One event for one receiver: the input of a webhook job."""

    endpoint_id: str
    """Whose secrets sign."""
    url: WebUrl | None = None
    """Where to, if the job named it; None: to the endpoint's own URL, as it is at the attempt."""
    body: str
    """JSON text, sent as it is: the same bytes at each attempt."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom to tell: an endpoint, or the URL that a job names under the default one."""

    endpoint_id: str
    url: str | None = None


def endpoint_tag(endpoint_id: str) -> str:
    """The tag of all deliveries that an endpoint signs."""
    return f"endpoint:{endpoint_id}"


def job_tag(job_id: str) -> str:
    """The tag of all deliveries about a job."""
    return f"job:{job_id}"


def event_tag(event: str) -> str:
    """The tag of all deliveries of an event."""
    return f"event:{event}"


def about(delivery: Job) -> dict[str, str]:
    """What a delivery is about: `endpoint`, `event` and, if it is about one, `job`."""
    parts = (tag.partition(":") for tag in delivery.tags)
    return {name: value for name, _, value in parts}


def delivery_of(job: Job, end: JobEnd, receiver: Receiver) -> Job:
    """The delivery that tells a receiver of a job's end.

    It is scheduled for the moment of that end: the relay, which looks for what is due twice a
    second, publishes it. So whoever makes it needs the store alone.
    """
    event = WebhookEvent.of(end.state)
    told = f"{job.id}/{end.generation}/{event}/{receiver.endpoint_id}/{receiver.url is None}"
    return _delivery(
        _id_at(end.at, told),
        job.tenant,
        end.at,
        DeliveryRequest(
            endpoint_id=receiver.endpoint_id, url=receiver.url, body=_body(job, end, event)
        ),
        (job_tag(job.id), event_tag(event), endpoint_tag(receiver.endpoint_id)),
        job.traceparent,
    )


def test_delivery(endpoint: Endpoint, now: datetime) -> Job:
    """A delivery that tells an endpoint of nothing but itself."""
    body = {"type": TEST_EVENT, "timestamp": now, "data": {"endpoint_id": endpoint.id}}
    return _delivery(
        f"{DELIVERY_PREFIX}{uuid7().hex}",
        endpoint.tenant,
        now,
        DeliveryRequest(endpoint_id=endpoint.id, body=to_json(body).decode()),
        (event_tag(TEST_EVENT), endpoint_tag(endpoint.id)),
    )


def _delivery(
    message_id: str,
    tenant: str,
    at: datetime,
    request: DeliveryRequest,
    tags: tuple[str, ...],
    traceparent: str | None = None,
) -> Job:
    return Job(
        id=message_id,
        tenant=tenant,
        kind=JobKind.WEBHOOK,
        lane=Lane.DEFAULT,
        state=JobState.SCHEDULED,
        input=request.model_dump_json(),
        created_at=at,
        not_before=at,
        max_attempts=MOST_ATTEMPTS,
        result_ttl_s=KEPT_S,
        tags=tags,
        traceparent=traceparent,
    )


def _id_at(moment: datetime, told: str) -> str:
    """Sorted by time, as all ids of jobs, and the same each time it is made."""
    digest = hashlib.sha256(told.encode()).hexdigest()[:20]
    return f"{DELIVERY_PREFIX}{round(moment.timestamp() * 1000):012x}{digest}"


def _body(job: Job, end: JobEnd, event: WebhookEvent) -> str:
    """Thin: who wants the result fetches it. `metadata` is the caller's own JSON text, verbatim."""
    path = f"/v1/jobs/{job.id}"
    data: Mapping[str, Any] = {
        "id": job.id,
        "kind": job.kind,
        "state": end.state,
        "generation": end.generation,
        "batch_id": job.batch_id,
        "links": {"self": path, "result": f"{path}/result"},
    }
    head = to_json({"type": event, "timestamp": end.at})[:-1].decode()
    return f'{head},"data":{to_json(data)[:-1].decode()},"metadata":{job.metadata}}}}}'
