"""Submitting: the hot path."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import StoreUnavailable
from forebay.jobs import Idempotency, Job, JobKind
from ingress import idempotency
from ingress.body import parse, read_body
from ingress.callers import preferred_wait_s, until_done
from ingress.dependencies import Services, caller_of, services_of
from ingress.routes.described import REPLAYED, RETRY_AFTER, json_body, problems
from ingress.routes.direct import DirectRoute
from ingress.schemas import INPUTS, JOB_SUBMISSION, JobSubmission, with_defaults
from ingress.submission import Origin
from ingress.views import JobView, path_of, poll_after_s, render

router = APIRouter(route_class=DirectRoute, tags=["jobs"])

# W3C Trace Context, version 00; an all-zero id is not valid.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_HEADERS: dict[str, Any] = {
    "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
    "Idempotent-Replayed": REPLAYED,
    "Preference-Applied": {
        "description": "With `Prefer: wait=n`: how long the answer was held back at most.",
        "schema": {"type": "string", "pattern": "^wait="},
        "example": "wait=10",
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Accepted: the job is stored durably and runs as soon as it can.",
        "model": JobView,
        "headers": {**_HEADERS, "Retry-After": RETRY_AFTER},
    },
    200: {
        "description": (
            "Done: within the time of `Prefer: wait=n`, or a repeat under the same Idempotency-Key."
        ),
        "model": JobView,
        "headers": _HEADERS,
    },
    **problems(400, 408, 413, 415, 422, 503),
}
KEY = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": (
        "The same key is the same job, as long as the job is kept. A repeat of a failed job "
        "answers the failed job; to try again take a new key."
    ),
    "schema": {"type": "string", "pattern": idempotency.PATTERN},
    "example": '"order-4711"',
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": (
        "`wait=n`: answer when the job is done, or after n seconds (RFC 7240); at most the "
        "service's limit (60)."
    ),
    "schema": {"type": "string"},
    "example": "wait=10",
}


def _described(*models: str) -> dict[str, Any]:
    return {
        "status_code": 202,
        "responses": _ANSWERS,
        "openapi_extra": {"requestBody": json_body(*models), "parameters": [KEY, PREFER]},
    }


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    **_described("SearchSubmission", "CrawlSubmission", "LlmSubmission"),
)
async def submit_job(request: Request) -> Response:
    """Answers as soon as the job is durable; the call to the provider comes later."""
    services = services_of(request)
    body = await read_body(request, services.bodies)
    submission = parse(JOB_SUBMISSION, body, tag="kind")
    return await _accept(request, services, submission, await _origin(request, body, "/input"))


@router.post("/v1/search", summary="Submit a search", **_described("SearchRequest"))
async def submit_search(request: Request) -> Response:
    """The same as `POST /v1/jobs` with the body as its `input` and all else by default."""
    return await _submit_input(request, JobKind.SEARCH)


@router.post("/v1/crawl", summary="Submit a crawl", **_described("CrawlRequest"))
async def submit_crawl(request: Request) -> Response:
    """The same as `POST /v1/jobs` with the body as its `input` and all else by default."""
    return await _submit_input(request, JobKind.CRAWL)


@router.post("/v1/llm", summary="Submit a conversation", **_described("LlmRequest"))
async def submit_llm(request: Request) -> Response:
    """The same as `POST /v1/jobs` with the body as its `input` and all else by default."""
    return await _submit_input(request, JobKind.LLM)


async def _submit_input(request: Request, kind: JobKind) -> Response:
    services = services_of(request)
    body = await read_body(request, services.bodies)
    submission = with_defaults(parse(INPUTS[kind], body))
    return await _accept(request, services, submission, await _origin(request, body, ""))


async def _origin(request: Request, body: bytes, input_at: str) -> Origin:
    key = idempotency.of_request(request.headers, request.scope["path"], body)
    return await origin_of(request, key, input_at)


async def origin_of(request: Request, key: Idempotency | None, input_at: str) -> Origin:
    """Where a request comes from."""
    traceparent = _traceparent(request.headers.get("traceparent"))
    caller = caller_of(request)
    listened = await services_of(request).webhooks.listened(caller.tenant)
    return Origin(caller.tenant, traceparent, key, caller.key, listened, input_at)


async def _accept(
    request: Request, services: Services, submission: JobSubmission, origin: Origin
) -> Response:
    accepted = await services.desk.accept(submission, origin)
    job = accepted.job
    headers = {"Location": path_of(job.id), "Cache-Control": "no-store"}
    wait_s = preferred_wait_s(request, services.settings.max_wait_s)
    if wait_s and (job.done or await until_done(request, services, job.id, wait_s)):
        headers["Preference-Applied"] = f"wait={wait_s:g}"
        job = await _awaited(request, services, job)
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    if not job.done:
        headers["Retry-After"] = str(poll_after_s(job, services.clock()))
    content = render(job, await result_of(services, job))
    return _Receipt(
        content, 200 if job.done else 202, headers=headers, media_type="application/json"
    )


async def _awaited(request: Request, services: Services, job: Job) -> Job:
    """The job as it is after the wait; what was accepted stays accepted."""
    if not job.done:
        with suppress(StoreUnavailable):
            if await services.gate.still(request):
                return await services.store.get(job.tenant, job.id) or job
    return job


class _Receipt(Response):
    """The answer to a submission."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await super().__call__(scope, receive, send)
        crashpoint(CrashPoint.INGRESS_AFTER_ANSWER)


async def result_of(services: Services, job: Job) -> str | None:
    """The JSON text of a job's result, wherever it is stored; None when there is none."""
    if job.result is not None or not job.done:
        return job.result
    return await services.store.result(job)


def _traceparent(header: str | None) -> str | None:
    return header if header is not None and _TRACEPARENT.fullmatch(header) else None
