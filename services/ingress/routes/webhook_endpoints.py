"""Webhook endpoints: where a tenant hears of its jobs."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from forebay.endpoints import WebhookEvent, default_endpoint_id
from forebay.requests import RequestModel, Several, WebUrl
from forebay.store.endpoints import EndpointChange
from ingress.body import parse, read_body
from ingress.dependencies import services_of, tenant_of
from ingress.query import Nothing, read_query
from ingress.routes.described import json_body, problems
from ingress.routes.direct import DirectRoute
from ingress.webhook_views import (
    DeliveryView,
    EndpointList,
    EndpointSecretView,
    EndpointView,
    render_delivery,
    render_endpoint,
    render_endpoints,
)
from ingress.webhooks import BY_CALLER, DEFAULT, no_such_endpoint

router = APIRouter(route_class=DirectRoute, tags=["webhooks"])

ENDPOINT_ID = re.compile(r"we_[0-9a-f]{32}")
Item = TypeVar("Item")
Description = Annotated[str, StringConstraints(max_length=256)]
Events = Annotated[Several[WebhookEvent], Field(max_length=8)]
_PATH = "/v1/webhook-endpoints"
_ID = {
    "name": "endpoint_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^we_[0-9a-f]{32}$"},
}
_ID_OR_DEFAULT = {
    **_ID,
    "description": "`default` is the one that signs what goes to the URLs that jobs name.",
    "schema": {"type": "string", "pattern": "^(we_[0-9a-f]{32}|default)$"},
}
_BODY_PROBLEMS = (400, 408, 413, 415, 422, 503)


class EndpointSubmission(RequestModel):
    """A new webhook endpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/hook", "events": ["job.succeeded", "job.failed"]}
            ]
        }
    )

    url: WebUrl
    """Where to POST."""
    events: Events = ()
    """What it hears of; empty: everything."""
    description: Description = ""
    """Your own words."""


def _is_given(value: Item | None) -> Item:
    if value is None:
        raise ValueError("Input should not be null; leave out what is to stay as it is")
    return value


def _optional(schema: dict[str, Any]) -> None:
    """Say nothing of the None that stands for what is left out: nobody can send it."""
    schema.pop("default", None)


Left = Annotated[
    Item | SkipJsonSchema[None],
    AfterValidator(_is_given),
    Field(default=None, json_schema_extra=_optional),
]
"""What may be left out, and is None then; null is refused."""


class EndpointPatch(RequestModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"disabled": True}]})

    url: Left[WebUrl]
    """Deliveries that wait go to the new one."""
    events: Left[Events]
    description: Left[Description]
    disabled: Left[bool]
    """Deliveries that wait are canceled."""


_NEW: TypeAdapter[EndpointSubmission] = TypeAdapter(EndpointSubmission)
_PATCH: TypeAdapter[EndpointPatch] = TypeAdapter(EndpointPatch)


@router.post(
    _PATH,
    summary="Add a webhook endpoint",
    status_code=201,
    openapi_extra={"requestBody": json_body("EndpointSubmission")},
    responses={
        201: {"description": "Added; keep the secret.", "model": EndpointSecretView},
        **problems(*_BODY_PROBLEMS),
        409: {**problems(409)[409], "description": "There are 20 already."},
    },
)
async def add_endpoint(request: Request) -> Response:
    """It hears of jobs that are submitted from now on (at other replicas two seconds later)."""
    read_query(request, Nothing)
    asked = parse(_NEW, await _body(request))
    endpoint = await services_of(request).webhooks.create(
        tenant_of(request), asked.url, _names(asked.events), asked.description
    )
    headers = {"Location": f"{_PATH}/{endpoint.id}"}
    return _answer(render_endpoint(endpoint, with_secret=True), 201, headers)


@router.get(
    _PATH,
    summary="All webhook endpoints",
    responses={
        200: {"description": "The oldest first.", "model": EndpointList},
        **problems(422, 503),
    },
)
async def list_endpoints(request: Request) -> Response:
    """A tenant has 20 at most, or a few more if several were made at the same moment."""
    read_query(request, Nothing)
    endpoints = await services_of(request).webhooks.list(tenant_of(request))
    return _answer(render_endpoints(endpoints))


@router.get(
    f"{_PATH}/{{endpoint_id}}",
    summary="A webhook endpoint",
    openapi_extra={"parameters": [_ID_OR_DEFAULT]},
    responses={
        200: {"description": "The endpoint.", "model": EndpointView},
        **problems(404, 422, 503),
    },
)
async def get_endpoint(request: Request) -> Response:
    """Without its secret."""
    read_query(request, Nothing)
    endpoint = await services_of(request).webhooks.get(tenant_of(request), _name_of(request))
    return _answer(render_endpoint(endpoint))


@router.patch(
    f"{_PATH}/{{endpoint_id}}",
    summary="Change a webhook endpoint",
    openapi_extra={"parameters": [_ID], "requestBody": json_body("EndpointPatch")},
    responses={
        200: {"description": "The endpoint after it.", "model": EndpointView},
        **problems(404, *_BODY_PROBLEMS),
    },
)
async def change_endpoint(request: Request) -> Response:
    """What is left out stays as it is."""
    read_query(request, Nothing)
    endpoint_id = _id_of(request)
    asked = parse(_PATCH, await _body(request))
    to = EndpointChange(
        url=asked.url,
        events=None if asked.events is None else _names(asked.events),
        description=asked.description,
        disabled=asked.disabled,
        disabled_reason=BY_CALLER if asked.disabled else None,
    )
    endpoint = await services_of(request).webhooks.change(tenant_of(request), endpoint_id, to)
    return _answer(render_endpoint(endpoint))


@router.delete(
    f"{_PATH}/{{endpoint_id}}",
    summary="Remove a webhook endpoint",
    status_code=204,
    openapi_extra={"parameters": [_ID]},
    responses={204: {"description": "Gone."}, **problems(404, 422, 503)},
)
async def remove_endpoint(request: Request) -> Response:
    """Its deliveries that wait are canceled; the log of its deliveries stays."""
    read_query(request, Nothing)
    await services_of(request).webhooks.remove(tenant_of(request), _id_of(request))
    return Response(status_code=204)


@router.get(
    f"{_PATH}/{{endpoint_id}}/secret",
    summary="The secret of a webhook endpoint",
    openapi_extra={"parameters": [_ID_OR_DEFAULT]},
    responses={
        200: {"description": "With the newest secret.", "model": EndpointSecretView},
        **problems(404, 422, 503),
    },
)
async def get_secret(request: Request) -> Response:
    """The default endpoint has one from its first use on, which may be this."""
    read_query(request, Nothing)
    endpoint = await services_of(request).webhooks.get(tenant_of(request), _name_of(request))
    return _answer(render_endpoint(endpoint, with_secret=True))


@router.post(
    f"{_PATH}/{{endpoint_id}}/rotate-secret",
    summary="A new secret",
    openapi_extra={"parameters": [_ID_OR_DEFAULT]},
    responses={
        200: {"description": "With the new secret.", "model": EndpointSecretView},
        **problems(404, 422, 503),
    },
)
async def rotate_secret(request: Request) -> Response:
    """For 24 hours the old secret signs beside the new one, so that receivers can change over."""
    read_query(request, Nothing)
    endpoint = await services_of(request).webhooks.rotate(tenant_of(request), _name_of(request))
    return _answer(render_endpoint(endpoint, with_secret=True))


@router.post(
    f"{_PATH}/{{endpoint_id}}/test",
    summary="Send a test event",
    status_code=202,
    openapi_extra={"parameters": [_ID]},
    responses={
        202: {"description": "The delivery; look at it for its end.", "model": DeliveryView},
        **problems(404, 422, 503),
    },
)
async def send_test(request: Request) -> Response:
    """A `webhook.test` event, signed and tried again as any other."""
    read_query(request, Nothing)
    delivery = await services_of(request).webhooks.test(tenant_of(request), _id_of(request))
    return _answer(render_delivery(delivery), 202)


def _id_of(request: Request) -> str:
    """The id in the path; one that cannot be an id is never asked for.

    The default endpoint has an id in the store, which anybody can work out: under that one it could
    be given a URL, or be removed with the secret that signs. It is reached by its name alone.
    """
    endpoint_id: str = request.path_params["endpoint_id"]
    is_default = endpoint_id == default_endpoint_id(tenant_of(request))
    if is_default or not ENDPOINT_ID.fullmatch(endpoint_id):
        raise no_such_endpoint()
    return endpoint_id


def _name_of(request: Request) -> str:
    """The id in the path, or `default`."""
    return DEFAULT if request.path_params["endpoint_id"] == DEFAULT else _id_of(request)


def _names(events: tuple[WebhookEvent, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(event.value for event in events))


async def _body(request: Request) -> bytes:
    return await read_body(request, services_of(request).bodies)


def _answer(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    every = {"Cache-Control": "no-store", **(headers or {})}
    return Response(content, status, headers=every, media_type="application/json")
