"""Looking at jobs: one, its result, many; and running one again."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from forebay.errors import IllegalTransition, OtherGeneration
from forebay.jobs import Job, JobKind, JobState
from forebay.store import JobQuery
from forebay.tasks import end
from ingress import cursor
from ingress.body import validation_error
from ingress.dependencies import Services, services_of, tenant_of
from ingress.error_handlers import problem_response
from ingress.problems import InvalidPart, Problem, ProblemCode, RequestRefused, job_problem
from ingress.query import Many, QueryModel, read_query
from ingress.routes.described import JOB_ID, OF_JOB, PROBLEM, RETRY_AFTER, parameters, problems
from ingress.routes.direct import DirectRoute
from ingress.routes.submit import result_of
from ingress.views import (
    JobList,
    JobView,
    etag_of,
    path_of,
    poll_after_s,
    render,
    render_list,
)

router = APIRouter(route_class=DirectRoute, tags=["jobs"])

_OPEN = {"headers": {"Retry-After": RETRY_AFTER, "ETag": {"schema": {"type": "string"}}}}


class Nothing(QueryModel):
    """No query at all."""


class Look(QueryModel):
    """The query of `GET /v1/jobs/{id}`."""

    wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Answer when the job is done, or after this many seconds; at most the service's limit (60)."""
    include: Many[Literal["attempts"]] = ()
    """`attempts` adds the record of each attempt."""


class ListQuery(QueryModel):
    """The query of `GET /v1/jobs`."""

    state: Many[JobState] = ()
    """Only these states: repeated, or separated by commas."""
    kind: Many[JobKind] = ()
    """Only these kinds: repeated, or separated by commas."""
    dead_lettered: bool | None = None
    """`true`: only jobs that failed because their attempts ran out; `false`: only the others."""
    include: Many[Literal["attempts"]] = ()
    """`attempts` adds the record of each attempt."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs on a page."""
    cursor: Annotated[str, Field(max_length=200)] | None = None
    """`next_cursor` of the page before."""


class RetryQuery(QueryModel):
    """The query of `POST /v1/jobs/{id}/retry`."""

    generation: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Only if the job is still in this generation: the `generation` it was last seen with. A repeat
    after a lost answer is then safe, and what somebody else ran again meanwhile is left alone."""


@router.get(
    "/v1/jobs/{job_id}",
    summary="A job",
    openapi_extra={"parameters": [*JOB_ID, *parameters(Look)]},
    responses={
        200: {"description": "The job; `Retry-After` while it is open.", "model": JobView, **_OPEN},
        304: {"description": "Nothing changed since the `ETag` in `If-None-Match`."},
        **problems(404, 422, 503),
    },
)
async def get_job(request: Request) -> Response:
    """Where the job is in its life, and its result or error when it is done."""
    services = services_of(request)
    look = read_query(request, Look)
    _check_wait(look.wait, services)
    job = await _find(request)
    if look.wait and not job.done:
        await _wait(request, services, job.id, look.wait)
        job = await _find(request)
    result = await result_of(services, job)
    content = render(job, result, with_attempts="attempts" in look.include)
    headers = {"ETag": etag_of(content), "Cache-Control": "no-cache"}
    if not job.done:
        headers["Retry-After"] = str(poll_after_s(job, services.clock()))
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="The result alone",
    openapi_extra={"parameters": JOB_ID},
    responses={
        200: {
            "description": "The result as it was stored; its shape goes with the kind.",
            "content": {"application/json": {"schema": {}}},
        },
        202: {"description": "Not yet: the job as it is.", "model": JobView, **_OPEN},
        "default": {"description": OF_JOB, "content": {"application/problem+json": PROBLEM}},
        **problems(404, 410, 503),
    },
)
async def get_result(request: Request) -> Response:
    """The result of a succeeded job, or the problem of one that did not succeed."""
    services = services_of(request)
    read_query(request, Nothing)
    job = await _find(request)
    if not job.done:
        headers = {
            "Location": path_of(job.id),
            "Retry-After": str(poll_after_s(job, services.clock())),
            "Cache-Control": "no-store",
        }
        return Response(render(job), 202, headers=headers, media_type="application/json")
    if job.error is not None:
        problem = Problem.model_validate(job_problem(job.error, path_of(job.id)))
        return problem_response(problem, {})
    result = await result_of(services, job)
    if result is None:
        raise RequestRefused(ProblemCode.RESULT_EXPIRED, "The result of the job is kept no longer.")
    headers = {"Cache-Control": "private, no-cache"}
    return Response(result.encode(), headers=headers, media_type="application/json")


@router.get(
    "/v1/jobs",
    summary="Many jobs",
    openapi_extra={"parameters": parameters(ListQuery)},
    responses={
        200: {
            "description": "A page, newest first, without results.",
            "model": JobList,
            "headers": {
                "Link": {
                    "description": 'The next page, `rel="next"`.',
                    "schema": {"type": "string"},
                }
            },
        },
        **problems(422, 503),
    },
)
async def list_jobs(request: Request) -> Response:
    """Jobs of the tenant, the newest first."""
    query = read_query(request, ListQuery)
    before = cursor.decode(query.cursor) if query.cursor is not None else None
    # One more than asked for tells whether there is a next page.
    jobs = await services_of(request).store.list(
        JobQuery(
            tenant=tenant_of(request),
            states=frozenset(query.state),
            kinds=frozenset(query.kind),
            dead_lettered=query.dead_lettered,
            limit=query.limit + 1,
            before=before,
        )
    )
    page = jobs[: query.limit]
    headers = {"Cache-Control": "no-store"}
    following = cursor.encode(page[-1].id) if len(jobs) > query.limit else None
    if following is not None:
        headers["Link"] = f'</v1/jobs?{_query_of(query, following)}>; rel="next"'
    content = render_list(page, following, with_attempts="attempts" in query.include)
    return Response(content, headers=headers, media_type="application/json")


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
        job = await services.desk.retry(tenant_of(request), _job_id(request), seen)
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
        raise _no_such_job()
    headers = {
        "Location": path_of(job.id),
        "Retry-After": str(poll_after_s(job, services.clock())),
        "Cache-Control": "no-store",
    }
    return Response(render(job), 202, headers=headers, media_type="application/json")


def _query_of(query: ListQuery, following: str) -> str:
    """The same query for the page that follows."""
    asked = query.model_dump(mode="json", exclude_unset=True) | {"cursor": following}
    if query.dead_lettered is not None:
        asked["dead_lettered"] = "true" if query.dead_lettered else "false"
    return urlencode(asked, doseq=True)


def _check_wait(wait_s: float, services: Services) -> None:
    most = services.settings.max_wait_s
    if wait_s > most:
        said = f"Input should be less than or equal to {most:g}"
        raise validation_error([InvalidPart(parameter="wait", detail=said)])


async def _find(request: Request) -> Job:
    """The tenant's job; another's, an unknown one and nonsense are the same 404."""
    job = await services_of(request).store.get(tenant_of(request), _job_id(request))
    if job is None:
        raise _no_such_job()
    return job


def _job_id(request: Request) -> str:
    """The id in the path; one that cannot be an id is never asked for."""
    job_id: str = request.path_params["job_id"]
    if not cursor.JOB_ID.fullmatch(job_id):
        raise _no_such_job()
    return job_id


def _no_such_job() -> RequestRefused:
    return RequestRefused(ProblemCode.NOT_FOUND, "There is no such job.")


async def _wait(request: Request, services: Services, job_id: str, wait_s: float) -> None:
    """Wait for the end of the job, or of the time, or of the caller's patience."""
    finished = asyncio.create_task(services.waiting.until_finished(job_id, wait_s))
    left = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((finished, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(finished, left)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in known or "*" in known
