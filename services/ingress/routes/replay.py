"""Running many jobs again that a filter names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from forebay.batches import MOST_ITEMS
from forebay.errors import ErrorCode
from forebay.jobs import CallerKind, JobState
from forebay.requests import WHOLE, RequestModel
from forebay.store import JobQuery
from ingress import idempotency
from ingress.batch_views import BatchView, batch_path, render_batch
from ingress.body import parse, read_body
from ingress.dependencies import services_of, tenant_of
from ingress.query import Nothing, read_query
from ingress.routes.described import REPLAYED, RETRY_AFTER, json_body, problems
from ingress.routes.direct import DirectRoute
from ingress.routes.submit import KEY
from ingress.schemas import Moment, ProviderName, Tag
from ingress.submission import metadata_text
from ingress.views import POLL_S

router = APIRouter(route_class=DirectRoute, tags=["jobs"])

MOST_SHOWN = 100
"""Ids in the answer to a dry run."""
Ended = Literal[JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED]


class ReplayRequest(RequestModel):
    """Which jobs run again. All filters must hold; of one with several values, any."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": ["search"],
                    "error_code": ["provider_error", "attempts_exhausted"],
                    "created_after": "2026-11-22T00:00:00Z",
                    "dry_run": True,
                }
            ]
        }
    )

    state: Annotated[tuple[Ended, ...], Field(min_length=1)] = (JobState.FAILED,)
    """Only jobs with such an end."""
    kind: tuple[CallerKind, ...] = ()
    tag: Annotated[tuple[Tag, ...], Field(max_length=20)] = ()
    """Only jobs with one of these tags."""
    provider: tuple[ProviderName, ...] = ()
    """Only jobs for which one of these providers was called."""
    error_code: tuple[ErrorCode, ...] = ()
    """Only jobs whose `error` has one of these codes."""
    dead_lettered: bool | None = None
    """`true`: only jobs that failed because their attempts ran out; `false`: only the others."""
    created_after: Moment | None = None
    """Only jobs created then or later (RFC 3339)."""
    created_before: Moment | None = None
    """Only jobs created before."""
    limit: Annotated[int, Field(ge=1, le=MOST_ITEMS), WHOLE] = MOST_ITEMS
    """How many at most, the oldest first; for more ask again."""
    dry_run: bool = False
    """Only say which jobs it would be."""
    metadata: Annotated[dict[str, Any], Field(max_length=1000)] = {}  # noqa: RUF012 - frozen
    """Your own object, kept with the batch; at most 16 KiB."""


_BODY: TypeAdapter[ReplayRequest] = TypeAdapter(ReplayRequest)


class ReplayPreview(BaseModel):
    """What a replay would run again."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "object": "replay_preview",
                    "matched": 1,
                    "has_more": False,
                    "job_ids": ["job_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5"],
                }
            ]
        },
    )

    object: Literal["replay_preview"]
    matched: int
    """Jobs that would run again, `limit` at most."""
    has_more: bool
    """Whether the filter names more than `limit`."""
    job_ids: tuple[str, ...]
    """The first hundred of them, the oldest first."""


@router.post(
    "/v1/jobs/replay",
    summary="Run many jobs again",
    status_code=202,
    openapi_extra={"requestBody": json_body("ReplayRequest"), "parameters": [KEY]},
    responses={
        200: {"description": "Of a dry run: nothing was changed.", "model": ReplayPreview},
        202: {
            "description": "Queued again, each in its next generation; together they are a batch.",
            "model": BatchView,
            "headers": {
                "Location": {"description": "Where the batch is.", "schema": {"type": "string"}},
                "Retry-After": RETRY_AFTER,
                "Idempotent-Replayed": REPLAYED,
            },
        },
        **problems(400, 408, 413, 415, 422, 503),
    },
)
async def replay_jobs(request: Request) -> Response:
    """Jobs that have their end run again, with all their attempts; try `dry_run` first.

    A repeat under the same Idempotency-Key is the same batch: it names no job anew.
    """
    read_query(request, Nothing)
    services = services_of(request)
    body = await read_body(request, services.bodies)
    asked = parse(_BODY, body)
    query = _query(asked, tenant_of(request))
    key = idempotency.of_request(request.headers, request.scope["path"], body)
    if asked.dry_run:
        ids, more = await services.batches.named(query, asked.limit)
        return _preview(ids, more=more)
    with services.batches.place():
        ids, _ = await services.batches.named(query, asked.limit)
        accepted = await services.batches.replay(query, ids, key, metadata_text(asked.metadata))
    batch = accepted.batch
    counts = await services.store.tally(batch.tenant, batch.jobs)
    headers = {
        "Location": batch_path(batch.id),
        "Retry-After": str(POLL_S),
        "Cache-Control": "no-store",
    }
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    content = render_batch(batch, counts)
    return Response(content, 202, headers=headers, media_type="application/json")


@router.api_route(
    "/v1/jobs/replay", methods=["DELETE", "GET", "HEAD", "PATCH", "PUT"], include_in_schema=False
)
async def no_job_is_called_replay(_: Request) -> Response:
    """Without it the path would be that of a job with a strange id: 404 and not 405."""
    raise HTTPException(405)


def _query(asked: ReplayRequest, tenant: str) -> JobQuery:
    return JobQuery(
        tenant=tenant,
        states=frozenset(asked.state),
        kinds=frozenset(asked.kind),
        tags=frozenset(asked.tag),
        providers=frozenset(asked.provider),
        errors=frozenset(asked.error_code),
        created_from=asked.created_after,
        created_before=asked.created_before,
        dead_lettered=asked.dead_lettered,
    )


def _preview(ids: list[str], *, more: bool) -> Response:
    shown = {
        "object": "replay_preview",
        "matched": len(ids),
        "has_more": more,
        "job_ids": ids[:MOST_SHOWN],
    }
    headers = {"Cache-Control": "no-store"}
    return Response(to_json(shown), headers=headers, media_type="application/json")
