"""A batch as its caller sees it, and its results as lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

from forebay.batches import Batch
from forebay.jobs import Job, JobState
from forebay.store import JobQuery, JobStore
from ingress.batches import pages
from ingress.problems import Problem, job_problem
from ingress.views import LinksView, UsageView, links_of, path_of, time_text

RESULTS_TOGETHER = 50
"""Jobs read at a time with their results; of these each may have 256 KiB, or lie elsewhere."""
PIECE_BYTES = 64 * 1024
_EXAMPLE: dict[str, Any] = {
    "id": "batch_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "object": "batch",
    "done": False,
    "total": 3,
    "accepted": 2,
    "rejected": 1,
    "counts": {"queued": 1, "succeeded": 1},
    "removed": 0,
    "created_at": "2026-11-22T10:00:00.000Z",
    "errors": [
        {
            "index": 2,
            "error": {
                "type": "urn:forebay:problem:validation_error",
                "title": "The request is not valid",
                "status": 422,
                "detail": "1 part of the request is not valid.",
                "instance": "/v1/batches",
                "code": "validation_error",
                "retryable": False,
                "retry_after_s": None,
                "request_id": None,
                "errors": [{"pointer": "/input/query", "detail": "Field required"}],
            },
        }
    ],
    "links": {
        "self": "/v1/batches/batch_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
        "results": "/v1/batches/batch_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/results",
        "cancel": "/v1/batches/batch_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/cancel",
        "retry": "/v1/batches/batch_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/retry",
    },
    "metadata": {"import": "2026-11"},
}
_LINE: dict[str, Any] = {
    "custom_id": "row-1",
    "id": "job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "state": "succeeded",
    "done": True,
    "error": None,
    "usage": {"input_tokens": 0, "output_tokens": 0, "requests": 1},
    "links": {
        "self": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
        "result": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/result",
        "events": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/events",
        "cancel": "/v1/jobs/job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5/cancel",
    },
    "result": {"query": "dam", "provider": "searxng", "results": []},
}


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ItemErrorView(_View):
    """Why an item did not become a job."""

    index: int
    """Its place in the batch, from 0."""
    error: Problem


class BatchLinksView(_View):
    """Where to go from here."""

    self: str
    results: str
    cancel: str
    retry: str


class BatchView(_View):
    """A batch."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    object: Literal["batch"]
    done: bool
    """Whether every accepted job has its end."""
    total: int
    """Items that were sent."""
    accepted: int
    """Items that became jobs."""
    rejected: int
    """Items that did not; `errors` says why."""
    counts: dict[JobState, int]
    """Jobs by their state; a state without any is left out."""
    removed: int
    """Jobs that are kept no longer, or were deleted."""
    created_at: datetime
    errors: tuple[ItemErrorView, ...]
    links: BatchLinksView
    metadata: dict[str, Any]


class ResultLine(_View):
    """One line of a batch's results."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    custom_id: str | None
    id: str
    state: JobState
    done: bool
    error: Problem | None
    usage: UsageView | None
    links: LinksView
    result: Any


def batch_path(batch_id: str) -> str:
    """Where a batch is."""
    return f"/v1/batches/{batch_id}"


def render_batch(batch: Batch, counts: Mapping[JobState, int]) -> bytes:
    """`BatchView` as bytes."""
    path = batch_path(batch.id)
    there = sum(counts.values())
    view = {
        "id": batch.id,
        "object": "batch",
        "done": not any(count for state, count in counts.items() if not state.terminal),
        "total": batch.total,
        "accepted": batch.accepted,
        "rejected": len(batch.rejected),
        "counts": {state: counts[state] for state in JobState if counts.get(state)},
        "removed": max(batch.accepted - there, 0),
        "created_at": time_text(batch.created_at),
        "links": {
            "self": path,
            **{name: f"{path}/{name}" for name in ("results", "cancel", "retry")},
        },
    }
    errors = ",".join(f'{{"index":{one.index},"error":{one.problem}}}' for one in batch.rejected)
    return b'%b,"errors":[%b],"metadata":%b}' % (
        to_json(view)[:-1],
        errors.encode(),
        batch.metadata.encode(),
    )


async def result_lines(store: JobStore, query: JobQuery) -> AsyncIterator[bytes]:
    """A line for each job, in the order in which they were sent; several in one piece if short."""
    piece = bytearray()
    async for page in pages(store, query, RESULTS_TOGETHER):
        for job in page:
            line = await _line(store, job)
            if piece and len(piece) + len(line) > PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
            piece += line
    if piece:
        yield bytes(piece)


async def _line(store: JobStore, job: Job) -> bytes:
    path = path_of(job.id)
    head = {
        "custom_id": job.custom_id,
        "id": job.id,
        "state": job.state,
        "done": job.done,
        "error": job_problem(job.error, path) if job.error else None,
        "usage": job.usage,
        "links": links_of(job.id),
    }
    result = await store.result(job) if job.done else None
    return b'%b,"result":%b}\n' % (to_json(head)[:-1], (result or "null").encode())
