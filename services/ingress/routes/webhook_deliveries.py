"""The log of webhook deliveries."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from forebay.endpoints import default_endpoint_id
from forebay.errors import IllegalTransition
from forebay.jobs import JobState
from forebay.store import JobQuery
from forebay.webhooks.delivery import endpoint_tag, event_tag, job_tag
from ingress import cursor
from ingress.dependencies import services_of, tenant_of
from ingress.problems import ProblemCode, RequestRefused
from ingress.query import Many, Nothing, QueryModel, read_query
from ingress.routes.described import parameters, problems
from ingress.routes.direct import DirectRoute
from ingress.webhook_views import (
    DeliveryList,
    DeliveryView,
    render_deliveries,
    render_delivery,
)
from ingress.webhooks import DEFAULT

router = APIRouter(route_class=DirectRoute, tags=["webhooks"])

_PATH = "/v1/webhook-deliveries"
_ID = [
    {
        "name": "delivery_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^msg_[0-9a-f]{32}$"},
    }
]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class DeliveryQuery(QueryModel):
    """The query of `GET /v1/webhook-deliveries`."""

    endpoint_id: _Name | None = None
    """Only of this endpoint; `default`: only to URLs that jobs named."""
    job_id: _Name | None = None
    """Only about this job."""
    event: _Name | None = None
    """Only of this event, such as `job.failed`."""
    state: Many[JobState] = ()
    """Only these states: repeated, or separated by commas."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    """Deliveries on a page."""
    cursor: (
        Annotated[str, Field(max_length=200, json_schema_extra={"format": "delivery-cursor"})]
        | None
    ) = None
    """`next_cursor` of the page before."""


@router.get(
    _PATH,
    summary="Many webhook deliveries",
    openapi_extra={"parameters": parameters(DeliveryQuery)},
    responses={
        200: {
            "description": "A page, newest first; each with its attempts.",
            "model": DeliveryList,
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
async def list_deliveries(request: Request) -> Response:
    """All filters must hold. A delivery that has its end is kept for a week."""
    query, tenant = read_query(request, DeliveryQuery), tenant_of(request)
    beyond = None
    if query.cursor is not None:
        beyond = cursor.decode(tenant, query.cursor, cursor.DELIVERY_ID)
    # One more than asked for tells whether there is a next page.
    found = await services_of(request).store.list(
        JobQuery(
            tenant=tenant,
            deliveries=True,
            all_tags=_tags(query, tenant),
            states=frozenset(query.state),
            limit=query.limit + 1,
            beyond=beyond,
        )
    )
    page = found[: query.limit]
    headers = {"Cache-Control": "no-store"}
    following = cursor.encode(tenant, page[-1].id) if len(found) > query.limit else None
    if following is not None:
        asked = query.model_dump(mode="json", exclude_unset=True) | {"cursor": following}
        headers["Link"] = f'<{_PATH}?{urlencode(asked, doseq=True)}>; rel="next"'
    content = render_deliveries(page, following)
    return Response(content, headers=headers, media_type="application/json")


@router.get(
    f"{_PATH}/{{delivery_id}}",
    summary="A webhook delivery",
    openapi_extra={"parameters": _ID},
    responses={
        200: {"description": "With its attempts.", "model": DeliveryView},
        **problems(404, 422, 503),
    },
)
async def get_delivery(request: Request) -> Response:
    """One event for one receiver."""
    read_query(request, Nothing)
    delivery = await services_of(request).store.get(tenant_of(request), _id_of(request))
    if delivery is None:
        raise _no_such_delivery()
    return _answer(render_delivery(delivery))


@router.post(
    f"{_PATH}/{{delivery_id}}/redeliver",
    summary="Deliver again",
    status_code=202,
    openapi_extra={"parameters": _ID},
    responses={
        202: {"description": "The same delivery in its next generation.", "model": DeliveryView},
        **problems(404, 422, 503),
        409: {**problems(409)[409], "description": "The delivery is not done yet."},
    },
)
async def redeliver(request: Request) -> Response:
    """A delivery that has its end is sent again, under the same `webhook-id`."""
    read_query(request, Nothing)
    try:
        delivery = await services_of(request).desk.retry(tenant_of(request), _id_of(request))
    except IllegalTransition:
        raise RequestRefused(
            ProblemCode.NOT_TERMINAL, "The delivery is not done; it is tried again by itself."
        ) from None
    if delivery is None:
        raise _no_such_delivery()
    return _answer(render_delivery(delivery), 202)


def _tags(query: DeliveryQuery, tenant: str) -> frozenset[str]:
    tags = []
    if query.endpoint_id is not None:
        is_default = query.endpoint_id == DEFAULT
        tags.append(endpoint_tag(default_endpoint_id(tenant) if is_default else query.endpoint_id))
    if query.job_id is not None:
        tags.append(job_tag(query.job_id))
    if query.event is not None:
        tags.append(event_tag(query.event))
    return frozenset(tags)


def _id_of(request: Request) -> str:
    """The id in the path; one that cannot be an id is never asked for."""
    delivery_id: str = request.path_params["delivery_id"]
    if not cursor.DELIVERY_ID.fullmatch(delivery_id):
        raise _no_such_delivery()
    return delivery_id


def _no_such_delivery() -> RequestRefused:
    return RequestRefused(ProblemCode.NOT_FOUND, "There is no such webhook delivery.")


def _answer(content: bytes, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(content, status, headers=headers, media_type="application/json")
