"""The job that a path names."""

from __future__ import annotations

from starlette.requests import Request

from forebay.jobs import Job
from ingress import cursor
from ingress.dependencies import services_of, tenant_of
from ingress.problems import ProblemCode, RequestRefused


async def find_job(request: Request) -> Job:
    """The tenant's job; another's, an unknown one and nonsense are the same 404."""
    job = await services_of(request).store.get(tenant_of(request), job_id_of(request))
    if job is None:
        raise no_such_job()
    return job


def job_id_of(request: Request) -> str:
    """The id in the path; one that cannot be an id is never asked for."""
    job_id: str = request.path_params["job_id"]
    if not cursor.JOB_ID.fullmatch(job_id):
        raise no_such_job()
    return job_id


def no_such_job() -> RequestRefused:
    """What every job that is not the tenant's is answered with."""
    return RequestRefused(ProblemCode.NOT_FOUND, "There is no such job.")
