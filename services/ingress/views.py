"""A job as its caller sees it.

The caller's own text (metadata) and the result are JSON already. They go out as the bytes that
are stored, spliced in and never parsed: nothing in them can be changed or break an answer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from forebay.jobs import Attempt, CallerKind, Job, JobState, Lane
from ingress.problems import Problem, job_problem

POLL_S = 1
"""`Retry-After` of an open job, in seconds."""
MAX_POLL_S = 3600
_EXAMPLE: dict[str, Any] = {
    "id": "job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "object": "job",
    "kind": "search",
    "state": "queued",
    "done": False,
    "lane": "default",
    "wait": {"reason": "queued"},
    "attempts": 0,
    "max_attempts": 5,
    "generation": 1,
    "created_at": "2026-11-22T10:00:00.000Z",
    "queued_at": "2026-11-22T10:00:00.000Z",
    "started_at": None,
    "finished_at": None,
    "expires_at": None,
    "not_before": None,
    "start_by": None,
    "deadline": None,
    "provider": None,
    "error": None,
    "usage": None,
    "cost": None,
    "batch_id": None,
    "custom_id": None,
    "tags": ["onboarding"],
    "links": {
        "self": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
        "result": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/result",
        "events": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/events",
        "cancel": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/cancel",
    },
    "metadata": {"user": "42"},
}


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class WaitReason(StrEnum):
    """Why a job is not running yet."""

    QUEUED = "queued"
    """A worker takes it as soon as one is free."""
    SCHEDULED = "scheduled"
    """Its `not_before` is still to come."""
    BACKOFF = "backoff"
    """An attempt failed in a way that can pass; the next one comes at `not_before`."""


class WaitView(_View):
    """What a waiting job waits for."""

    reason: WaitReason


class UsageView(_View):
    """What the call consumed, as the provider counted it."""

    input_tokens: int
    output_tokens: int
    requests: int


class LinksView(_View):
    """Where to go from here."""

    self: str
    result: str
    events: str
    cancel: str


class AttemptView(_View):
    """One attempt, with `?include=attempts`."""

    n: int
    """Its number within its generation, from 1; one that is not counted shares it with the next."""
    generation: int
    outcome: str
    """`succeeded`, `failed`, `retry_later`, `snoozed` (no call was made, it does not count),
    `handed_back` (the worker stopped), `lease_lost` (the worker died), `canceled` or `expired`."""
    provider: str | None
    http_status: int | None
    retry_after_s: float | None
    """What the provider asked for."""
    queue_wait_ms: int
    """From the time it was queued until a worker took it."""
    provider_ms: int
    """How long the worker called the provider."""
    provider_request_id: str | None
    started_at: datetime
    finished_at: datetime
    error: Problem | None


class JobSummary(_View):
    """A job as a list shows it: all but its result."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    object: Literal["job"]
    kind: CallerKind
    state: JobState
    done: bool
    """Whether the state is final."""
    lane: Lane
    wait: WaitView | None
    """Why it is not running yet; null when it runs or is done."""
    attempts: int
    max_attempts: int
    generation: int
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    """When the finished job is forgotten."""
    not_before: datetime | None
    start_by: datetime | None
    deadline: datetime | None
    provider: str | None
    """Who was called last."""
    error: Problem | None
    usage: UsageView | None
    cost: None
    """Not counted by this version."""
    batch_id: str | None
    """The batch it was submitted in."""
    custom_id: str | None
    """Your own name for it in that batch."""
    tags: tuple[str, ...]
    links: LinksView
    metadata: dict[str, Any]
    history: tuple[AttemptView, ...] | None = None
    """Each attempt, with `?include=attempts`."""


class JobView(JobSummary):
    """A job."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "result": None}]},
    )

    result: Annotated[Any, Field(description="Of a succeeded job; its shape goes with the kind.")]


class JobList(_View):
    """A page of jobs, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"object": "list", "data": [_EXAMPLE], "has_more": False, "next_cursor": None}
            ]
        }
    )

    object: Literal["list"]
    data: tuple[JobSummary, ...]
    has_more: bool
    next_cursor: str | None
    """For `?cursor=` of the next page."""


def render(job: Job, result: str | None = None, *, with_attempts: bool = False) -> bytes:
    """`JobView` as bytes; `result` is the JSON text of a succeeded job's result."""
    result_text = b"null" if result is None else result.encode()
    return b'%b,"result":%b}' % (_head(job, with_attempts)[:-1], result_text)


def render_list(
    jobs: Sequence[Job], next_cursor: str | None, *, with_attempts: bool = False
) -> bytes:
    """`JobList` as bytes."""
    summaries = b",".join(_head(job, with_attempts) for job in jobs)
    tail = to_json({"has_more": next_cursor is not None, "next_cursor": next_cursor})
    return b'{"object":"list","data":[%b],%b' % (summaries, tail[1:])


def render_event(job: Job) -> bytes:
    """`JobSummary` as bytes, as the events of a job tell it."""
    return _head(job, with_attempts=False)


def path_of(job_id: str) -> str:
    """Where a job is."""
    return f"/v1/jobs/{job_id}"


def links_of(job_id: str) -> dict[str, str]:
    """`LinksView` as it is written."""
    path = path_of(job_id)
    return {"self": path} | {name: f"{path}/{name}" for name in ("result", "events", "cancel")}


def etag_of(content: bytes) -> str:
    """A strong validator of these bytes (RFC 9110, 8.8.3)."""
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def poll_after_s(job: Job, now: datetime) -> int:
    """When to ask again, in whole seconds: soon, or when what it waits for has come."""
    if job.not_before is None or job.state not in {JobState.SCHEDULED, JobState.RETRYING}:
        return POLL_S
    return min(max(math.ceil((job.not_before - now).total_seconds()), POLL_S), MAX_POLL_S)


_WAITS = {
    JobState.QUEUED: {"reason": WaitReason.QUEUED},
    JobState.SCHEDULED: {"reason": WaitReason.SCHEDULED},
    JobState.RETRYING: {"reason": WaitReason.BACKOFF},
}


def _head(job: Job, with_attempts: bool) -> bytes:
    """`JobSummary` as bytes; the caller's metadata are never parsed again."""
    summary = _summary(job)
    if with_attempts:
        summary["history"] = [_attempt(job, attempt) for attempt in job.history]
    return b'%b,"metadata":%b}' % (to_json(summary)[:-1], job.metadata.encode())


def _summary(job: Job) -> dict[str, Any]:
    path = path_of(job.id)
    return {
        "id": job.id,
        "object": "job",
        "kind": job.kind,
        "state": job.state,
        "done": job.done,
        "lane": job.lane,
        "wait": _WAITS.get(job.state),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "generation": job.generation,
        "created_at": time_text(job.created_at),
        "queued_at": time_text(job.queued_at),
        "started_at": time_text(job.started_at),
        "finished_at": time_text(job.finished_at),
        "expires_at": time_text(job.expires_at),
        "not_before": time_text(job.not_before),
        "start_by": time_text(job.start_by),
        "deadline": time_text(job.deadline),
        "provider": _provider(job),
        "error": job_problem(job.error, path) if job.error else None,
        "usage": asdict(job.usage) if job.usage else None,
        "cost": None,
        "batch_id": job.batch_id,
        "custom_id": job.custom_id,
        "tags": job.tags,
        "links": links_of(job.id),
    }


def _attempt(job: Job, attempt: Attempt) -> dict[str, Any]:
    error = attempt.error
    return {
        "n": attempt.n,
        "generation": attempt.generation,
        "outcome": attempt.outcome,
        "provider": attempt.provider,
        "http_status": attempt.http_status,
        "retry_after_s": error.retry_after_s if error else None,
        "queue_wait_ms": attempt.queue_wait_ms,
        "provider_ms": attempt.provider_ms,
        "provider_request_id": attempt.provider_request_id,
        "started_at": time_text(attempt.started_at),
        "finished_at": time_text(attempt.finished_at),
        "error": job_problem(error, path_of(job.id)) if error else None,
    }


def _provider(job: Job) -> str | None:
    return next((a.provider for a in reversed(job.history) if a.provider), None)


def time_text(moment: datetime | None) -> str | None:
    """RFC 3339, in UTC, to the millisecond."""
    if moment is None:
        return None
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
