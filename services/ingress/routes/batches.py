"""Batches: many jobs at once."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from forebay.batches import MOST_ITEMS, Batch
from forebay.jobs import Idempotency, JobState
from forebay.store import JobQuery
from ingress import cursor, idempotency
from ingress.batch_views import BatchView, batch_path, render_batch, result_lines
from ingress.batches import BatchBody
from ingress.body import MAX_DEPTH, parse, read_body, validation_error
from ingress.dependencies import Services, services_of, tenant_of
from ingress.items import cut_document, cut_lines
from ingress.problems import InvalidPart, ProblemCode, RequestRefused
from ingress.query import Many, Nothing, QueryModel, read_query
from ingress.routes.described import (
    BATCH_ID,
    NDJSON,
    REPLAYED,
    RETRY_AFTER,
    json_body,
    parameters,
    problems,
)
from ingress.routes.direct import DirectRoute
from ingress.routes.submit import KEY, origin_of
from ingress.schemas import BATCH_SUBMISSION, OnInvalid
from ingress.submission import Origin
from ingress.views import POLL_S

router = APIRouter(route_class=DirectRoute, tags=["batches"])

FAILED = (JobState.FAILED, JobState.EXPIRED)
_HEADERS = {
    "Location": {"description": "Where the batch is.", "schema": {"type": "string"}},
    "Retry-After": RETRY_AFTER,
}

_KEY = {
    **KEY,
    "description": (
        "The same key is the same batch, as long as the batch is kept. The bytes of the body must "
        "be the same too, and of lines `on_invalid`."
    ),
}


class SubmitQuery(QueryModel):
    """The query of `POST /v1/batches`."""

    on_invalid: OnInvalid | None = None
    """For a body of lines, which has no other place for it; `reject` if left out."""


class RetryBatchQuery(QueryModel):
    """The query of `POST /v1/batches/{id}/retry`."""

    state: Annotated[Many[JobState], Field(min_length=1)] = FAILED
    """Which jobs run again; those that failed or expired if left out."""


@router.post(
    "/v1/batches",
    summary="Submit a batch",
    status_code=202,
    openapi_extra={
        "requestBody": json_body("BatchSubmission", lines=("SearchItem", "CrawlItem", "LlmItem")),
        "parameters": [_KEY, *parameters(SubmitQuery)],
    },
    responses={
        202: {
            "description": "Accepted: its jobs are stored durably and run as soon as they can.",
            "model": BatchView,
            "headers": {**_HEADERS, "Idempotent-Replayed": REPLAYED},
        },
        **problems(400, 408, 413, 415, 422, 503),
    },
)
async def submit_batch(request: Request) -> Response:
    """Up to 10 000 jobs, as one JSON document or as lines of JSON (`application/x-ndjson`)."""
    services = services_of(request)
    on_invalid = read_query(request, SubmitQuery).on_invalid
    # The place comes after the body: who sends slowly keeps nobody else from sending.
    raw = await read_body(request, services.batch_bodies, lines=NDJSON)
    with services.batches.place():
        fingerprint = await asyncio.to_thread(_fingerprint, raw, on_invalid)
        origin = await _origin(request, fingerprint)
        body = await _cut(request, raw, on_invalid)
        accepted = await services.batches.accept(body, origin)
    headers = {"Location": batch_path(accepted.batch.id), "Retry-After": str(POLL_S)}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return await _answer(services, accepted.batch, 202, headers)


@router.get(
    "/v1/batches/{batch_id}",
    summary="A batch",
    openapi_extra={"parameters": BATCH_ID},
    responses={200: {"description": "The batch.", "model": BatchView}, **problems(404, 422, 503)},
)
async def get_batch(request: Request) -> Response:
    """How many of its jobs are in each state, and which items were refused."""
    read_query(request, Nothing)
    return await _answer(services_of(request), await _find(request), 200, {})


@router.get(
    "/v1/batches/{batch_id}/results",
    summary="The results of a batch",
    openapi_extra={"parameters": BATCH_ID},
    responses={
        200: {
            "description": "A line of JSON for each job, in the order in which they were sent.",
            "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/ResultLine"}}},
        },
        **problems(404, 422, 503),
    },
)
async def get_results(request: Request) -> Response:
    """All jobs of the batch as they are now; those that are not done have no result yet."""
    read_query(request, Nothing)
    batch = await _find(request)
    query = JobQuery(tenant=batch.tenant, batch=batch.jobs, with_results=True)
    lines = result_lines(services_of(request).store, query)
    return StreamingResponse(lines, media_type=NDJSON, headers={"Cache-Control": "no-store"})


@router.post(
    "/v1/batches/{batch_id}/cancel",
    summary="Stop a batch",
    openapi_extra={"parameters": BATCH_ID},
    responses={
        200: {"description": "Every job is over.", "model": BatchView},
        202: {
            "description": "Some run: their calls are stopped within seconds.",
            "model": BatchView,
        },
        **problems(404, 422, 503),
    },
)
async def cancel_batch(request: Request) -> Response:
    """Stops every job that is not over; a repeat is harmless."""
    read_query(request, Nothing)
    services, batch = services_of(request), await _find(request)
    await services.batches.cancel(batch)
    counts = await services.store.tally(batch.tenant, batch.jobs)
    status = 202 if any(not state.terminal for state in counts) else 200
    return _rendered(batch, counts, status, {})


@router.post(
    "/v1/batches/{batch_id}/retry",
    summary="Run the failed jobs of a batch again",
    status_code=202,
    openapi_extra={"parameters": [*BATCH_ID, *parameters(RetryBatchQuery)]},
    responses={
        202: {
            "description": "Queued again, each in its next generation.",
            "model": BatchView,
            "headers": _HEADERS,
        },
        **problems(404, 422, 503),
    },
)
async def retry_batch(request: Request) -> Response:
    """Those that failed or expired run again; the others are left alone."""
    states = frozenset(read_query(request, RetryBatchQuery).state)
    services, batch = services_of(request), await _find(request)
    await services.batches.retry(JobQuery(tenant=batch.tenant, batch=batch.jobs, states=states))
    headers = {"Location": batch_path(batch.id), "Retry-After": str(POLL_S)}
    return await _answer(services, batch, 202, headers)


def _fingerprint(raw: bytes, on_invalid: OnInvalid | None) -> str:
    """Of the bytes: to read 64 MiB again, for what they say, would take seconds."""
    digest = hashlib.sha256(raw)
    if on_invalid is OnInvalid.SKIP:  # `reject` is what is meant without it
        digest.update(b"?on_invalid=skip")
    return digest.hexdigest()


async def _cut(request: Request, raw: bytes, on_invalid: OnInvalid | None) -> BatchBody:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == NDJSON:
        items = await cut_lines(raw)
        if not items.spans:
            said = f"A batch has 1 to {MOST_ITEMS} lines, not 0"
            raise validation_error([InvalidPart(pointer="", detail=said)])
        return BatchBody(items, "", on_invalid is OnInvalid.SKIP, {})
    if on_invalid is not None:
        said = "Say it in the body; only a body of lines has no place for it"
        raise validation_error([InvalidPart(parameter="on_invalid", detail=said)])
    beside, items = await cut_document(raw)
    sent = parse(BATCH_SUBMISSION, beside, depth=MAX_DEPTH + 2)
    return BatchBody(items, "/jobs", sent.on_invalid is OnInvalid.SKIP, sent.metadata)


async def _origin(request: Request, fingerprint: str) -> Origin:
    key = idempotency.read_key(request.headers)
    known = None if key is None else Idempotency(key, fingerprint)
    return await origin_of(request, known, "/input")


async def _find(request: Request) -> Batch:
    batch_id: str = request.path_params["batch_id"]
    if cursor.BATCH_ID.fullmatch(batch_id):
        batch = await services_of(request).batch_store.get(tenant_of(request), batch_id)
        if batch is not None and batch.complete:
            return batch
    raise RequestRefused(ProblemCode.NOT_FOUND, "There is no such batch.")


async def _answer(
    services: Services, batch: Batch, status: int, headers: dict[str, str]
) -> Response:
    counts = await services.store.tally(batch.tenant, batch.jobs)
    return _rendered(batch, counts, status, headers)


def _rendered(batch: Batch, counts: Any, status: int, headers: dict[str, str]) -> Response:
    headers["Cache-Control"] = "no-store"
    content = render_batch(batch, counts)
    return Response(content, status, headers=headers, media_type="application/json")
