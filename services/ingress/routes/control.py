"""Changing what becomes of a job: stop it, run it again, forget it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from forebay.errors import IllegalTransition, OtherGeneration, StoreUnavailable
from ingress.dependencies import services_of, tenant_of
from ingress.problems import ProblemCode, RequestRefused, store_unavailable
from ingress.query import Nothing, QueryModel, read_query
from ingress.routes.described import JOB_ID, RETRY_AFTER, parameters, problems
from ingress.routes.direct import DirectRoute
from ingress.routes.found import job_id_of, no_such_job
from ingress.routes.submit import result_of
from ingress.views import JobView, path_of, poll_after_s, render

router = APIRouter(route_class=DirectRoute, tags=["jobs"])


class RetryQuery(QueryModel):
    """The query of `POST /v1/jobs/{id}/retry`."""

    generation: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Only if the job is still in this generation: the `generation` it was last seen with. A repeat
    after a lost answer is then safe, and what somebody else ran again meanwhile is left alone."""


@router.post(
    "/v1/jobs/{job_id}/cancel",
    summary="Stop a job",
    openapi_extra={"parameters": JOB_ID},
    responses={
        200: {"description": "It is over: it waited, or had its end already.", "model": JobView},
        202: {
            "description": "It runs: its call is stopped within seconds.",
            "model": JobView,
            "headers": {"Retry-After": RETRY_AFTER},
        },
        **problems(404, 422, 503),
    },
)
async def cancel_job(request: Request) -> Response:
    """A waiting job is canceled at once, a running one's call is stopped; a repeat is harmless.

    A job that is done stays as it ended. A call that ends before it can be stopped is the job's end
    all the same, and is paid.
    """
    services = services_of(request)
    read_query(request, Nothing)
    try:
        job = await services.store.cancel(tenant_of(request), job_id_of(request))
    except StoreUnavailable:
        raise store_unavailable(
            "Whether the job is stopped is not known; to ask again does no harm."
        ) from None
    if job is None:
        raise no_such_job()
    services.hub.moved(job.id, done=job.done)
    headers = {"Cache-Control": "no-store"}
    if job.done:
        result = await result_of(services, job)
        return Response(render(job, result), headers=headers, media_type="application/json")
    headers |= {
        "Location": path_of(job.id),
        "Retry-After": str(poll_after_s(job, services.clock())),
    }
    return Response(render(job), 202, headers=headers, media_type="application/json")


@router.post(
    "/v1/jobs/{job_id}/retry",
    summary="Run a job again",
    status_code=202,
    openapi_extra={"parameters": [*JOB_ID, *parameters(RetryQuery)]},
    responses={
        202: {
            "description": "Queued again: the same job in its next generation.",
            "model": JobView,
            "headers": {
                "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
                "Retry-After": RETRY_AFTER,
            },
        },
        **problems(404, 409, 422, 503),
    },
)
async def retry_job(request: Request) -> Response:
    """A terminal job runs again, with all its attempts and without its former time limits."""
    services = services_of(request)
    seen = read_query(request, RetryQuery).generation
    try:
        job = await services.desk.retry(tenant_of(request), job_id_of(request), seen)
    except OtherGeneration:
        raise RequestRefused(
            ProblemCode.OTHER_GENERATION,
            f"The job is not in generation {seen}; look at it before it is run again.",
        ) from None
    except IllegalTransition:
        raise RequestRefused(
            ProblemCode.NOT_TERMINAL, "The job is not done; wait for its end, then retry it."
        ) from None
    if job is None:
        raise no_such_job()
    services.hub.moved(job.id, done=False)
    headers = {
        "Location": path_of(job.id),
        "Retry-After": str(poll_after_s(job, services.clock())),
        "Cache-Control": "no-store",
    }
    return Response(render(job), 202, headers=headers, media_type="application/json")


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Forget a job",
    status_code=204,
    openapi_extra={"parameters": JOB_ID},
    responses={
        204: {"description": "Gone, with its input and its result."},
        **problems(404, 409, 422, 503),
    },
)
async def forget_job(request: Request) -> Response:
    """Remove a job that is done before its retention ends. Its idempotency key is free again."""
    read_query(request, Nothing)
    try:
        gone = await services_of(request).store.forget(tenant_of(request), job_id_of(request))
    except IllegalTransition:
        raise RequestRefused(
            ProblemCode.NOT_TERMINAL, "The job is not done; cancel it, then forget it."
        ) from None
    if not gone:
        raise no_such_job()
    return Response(status_code=204)
