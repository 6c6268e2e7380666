"""Looking at jobs: one, its result, many."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from forebay.batches import BatchJobs
from forebay.errors import ErrorCode
from forebay.jobs import CallerKind, JobState
from forebay.store import JobQuery
from ingress import cursor
from ingress.callers import until_done
from ingress.dependencies import services_of, tenant_of
from ingress.error_handlers import problem_response
from ingress.gate import unauthenticated
from ingress.problems import Problem, ProblemCode, RequestRefused, job_problem
from ingress.query import Each, Many, Nothing, QueryModel, read_query
from ingress.routes.described import (
    ETAG,
    JOB_ID,
    OF_JOB,
    PROBLEM,
    RETRY_AFTER,
    parameters,
    problems,
)
from ingress.routes.direct import DirectRoute
from ingress.routes.found import find_job
from ingress.routes.submit import result_of
from ingress.schemas import Moment, ProviderName, Tag
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

_STATUS = {"headers": {"Retry-After": RETRY_AFTER, "ETag": ETAG}}
_NOT_YET = {
    "headers": {
        "Location": {"description": "Where the job is.", "schema": {"type": "string"}},
        "Retry-After": RETRY_AFTER,
    }
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of the answer you have: 304 while it is the same.",
    "schema": {"type": "string"},
    "example": '"0f3c5a7e9b1d2f4a6c8e0b1d"',
}
BatchId = Annotated[str, Field(pattern=f"^{cursor.BATCH_ID.pattern}$")]


class Look(QueryModel):
    """The query of `GET /v1/jobs/{id}`."""

    wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Answer when the job is done, or after this many seconds; of a longer wait, after the
    service's longest (60)."""
    include: Many[Literal["attempts"]] = ()
    """`attempts` adds the record of each attempt."""


class ListQuery(QueryModel):
    """The query of `GET /v1/jobs`."""

    state: Many[JobState] = ()
    """Only these states: repeated, or separated by commas."""
    kind: Many[CallerKind] = ()
    """Only these kinds: repeated, or separated by commas."""
    dead_lettered: bool | None = None
    """`true`: only jobs that failed because their attempts ran out; `false`: only the others."""
    tag: Each[Tag] = ()
    """Only jobs with one of these tags: repeated, for a tag may hold a comma."""
    provider: Many[ProviderName] = ()
    """Only jobs for which one of these providers was called."""
    error_code: Many[ErrorCode] = ()
    """Only jobs whose `error` has one of these codes."""
    batch_id: BatchId | None = None
    """Only jobs of this batch."""
    created_after: Moment | None = None
    """Only jobs created then or later (RFC 3339)."""
    created_before: Moment | None = None
    """Only jobs created before."""
    order: Literal["newest", "oldest"] = "newest"
    """What comes first."""
    include: Many[Literal["attempts"]] = ()
    """`attempts` adds the record of each attempt."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Jobs on a page."""
    cursor: (
        Annotated[str, Field(max_length=200, json_schema_extra={"format": "job-cursor"})] | None
    ) = None
    """`next_cursor` of the page before."""


@router.get(
    "/v1/jobs/{job_id}",
    summary="A job",
    openapi_extra={"parameters": [*JOB_ID, _IF_NONE_MATCH, *parameters(Look)]},
    responses={
        200: {
            "description": "The job; `Retry-After` while it is open.",
            "model": JobView,
            **_STATUS,
        },
        304: {"description": "Nothing changed since the `ETag` in `If-None-Match`.", **_STATUS},
        **problems(404, 422, 503),
    },
)
async def get_job(request: Request) -> Response:
    """Where the job is in its life, and its result or error when it is done."""
    services = services_of(request)
    look = read_query(request, Look)
    job = await find_job(request)
    wait_s = min(look.wait, services.settings.max_wait_s)
    if wait_s and not job.done and await until_done(request, services, job.id, wait_s):
        if not await services.gate.still(request):
            raise unauthenticated()
        job = await find_job(request)
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
        202: {"description": "Not yet: the job as it is.", "model": JobView, **_NOT_YET},
        "default": {"description": OF_JOB, "content": {"application/problem+json": PROBLEM}},
        **problems(404, 410, 422, 503),
    },
)
async def get_result(request: Request) -> Response:
    """The result of a succeeded job, or the problem of one that did not succeed."""
    services = services_of(request)
    read_query(request, Nothing)
    job = await find_job(request)
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
            "description": "A page, without results; newest first if not asked otherwise.",
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
    """Jobs of the tenant. All filters must hold; of one with several values, any."""
    tenant = tenant_of(request)
    query = read_query(request, ListQuery)
    beyond = cursor.decode(tenant, query.cursor) if query.cursor is not None else None
    # One more than asked for tells whether there is a next page.
    jobs = await services_of(request).store.list(
        JobQuery(
            tenant=tenant,
            states=frozenset(query.state),
            kinds=frozenset(query.kind),
            tags=frozenset(query.tag),
            providers=frozenset(query.provider),
            errors=frozenset(query.error_code),
            batch=await _jobs_of_batch(request, query.batch_id),
            created_from=query.created_after,
            created_before=query.created_before,
            dead_lettered=query.dead_lettered,
            limit=query.limit + 1,
            oldest_first=query.order == "oldest",
            beyond=beyond,
        )
    )
    page = jobs[: query.limit]
    headers = {"Cache-Control": "no-store"}
    following = cursor.encode(tenant, page[-1].id) if len(jobs) > query.limit else None
    if following is not None:
        headers["Link"] = f'</v1/jobs?{_query_of(query, following)}>; rel="next"'
    content = render_list(page, following, with_attempts="attempts" in query.include)
    return Response(content, headers=headers, media_type="application/json")


async def _jobs_of_batch(request: Request, batch_id: str | None) -> BatchJobs | None:
    """How the jobs of a batch are found: those of a replay are known to the batch alone."""
    if batch_id is None:
        return None
    batch = await services_of(request).batch_store.get(tenant_of(request), batch_id)
    return batch.jobs if batch is not None else BatchJobs(batch_id)


def _query_of(query: ListQuery, following: str) -> str:
    """The same query for the page that follows."""
    asked = query.model_dump(mode="json", exclude_unset=True) | {"cursor": following}
    if query.dead_lettered is not None:
        asked["dead_lettered"] = "true" if query.dead_lettered else "false"
    return urlencode(asked, doseq=True)


def _matches(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in known or "*" in known
