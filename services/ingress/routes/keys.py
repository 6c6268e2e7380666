"""API keys of the caller's own tenant."""

from __future__ import annotations

import re

from fastapi import APIRouter
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from forebay.keys import MOST_LIVE_KEYS, issue
from forebay.telemetry.events import LogEvent
from ingress.body import parse, read_body, validation_error
from ingress.dependencies import Services, caller_of, services_of
from ingress.key_views import KeyList, KeyView, NewKey, NewKeyView, shown
from ingress.problems import InvalidPart, ProblemCode, RequestRefused
from ingress.query import Nothing, read_query
from ingress.routes.described import KEY_ID, json_body, problems
from ingress.routes.direct import DirectRoute

router = APIRouter(route_class=DirectRoute, tags=["keys"])

_BODY: TypeAdapter[NewKey] = TypeAdapter(NewKey)
_ID = re.compile(r"key_[0-9a-f]{32}")


@router.post(
    "/v1/keys",
    summary="Make an API key",
    status_code=201,
    openapi_extra={"requestBody": json_body("NewKey")},
    responses={
        201: {"description": "Made. Its `secret` is not shown again.", "model": NewKeyView},
        **problems(400, 408, 409, 413, 415, 422, 503),
    },
)
async def create_key(request: Request) -> Response:
    """For the admin's own tenant. To rotate: make the new key, use it, revoke the old one."""
    read_query(request, Nothing)
    services, caller = services_of(request), caller_of(request)
    body = await read_body(request, services.bodies)
    asked = parse(_BODY, body)
    await _require_room(services, caller.tenant)
    now = services.clock()
    if asked.expires_at is not None and asked.expires_at <= now:
        raise validation_error([InvalidPart(pointer="/expires_at", detail="It has passed")])
    key, token = issue(
        caller.tenant,
        asked.name,
        asked.role,
        now,
        quota=asked.quota.value,
        expires_at=asked.expires_at,
    )
    await services.keys.add(key)
    services.logger.info(
        LogEvent.KEY_CREATED, key=key.id, tenant=key.tenant, role=key.role, by=caller.key_id
    )
    return _answer(NewKeyView(**shown(key), secret=str(token)), 201)


@router.get(
    "/v1/keys",
    summary="The tenant's API keys",
    responses={
        200: {"description": "Without their secrets.", "model": KeyList},
        **problems(422, 503),
    },
)
async def list_keys(request: Request) -> Response:
    """The newest first; revoked and expired ones for 90 days."""
    read_query(request, Nothing)
    keys = await services_of(request).keys.list(caller_of(request).tenant)
    return _answer(KeyList(data=tuple(KeyView(**shown(key)) for key in keys)))


@router.delete(
    "/v1/keys/{key_id}",
    summary="Revoke an API key",
    status_code=204,
    openapi_extra={"parameters": KEY_ID},
    responses={
        204: {"description": "Revoked: refused here from now on, everywhere within a minute."},
        **problems(404, 422, 503),
    },
)
async def revoke_key(request: Request) -> Response:
    """It works no longer; a repeat is harmless. An admin may revoke their own."""
    read_query(request, Nothing)
    services, caller = services_of(request), caller_of(request)
    key_id: str = request.path_params["key_id"]
    known = _ID.fullmatch(key_id) is not None
    key = await services.keys.revoke(caller.tenant, key_id) if known else None
    if key is None:
        raise RequestRefused(ProblemCode.NOT_FOUND, "There is no such API key.")
    services.ring.learn(key)
    services.logger.info(LogEvent.KEY_REVOKED, key=key_id, tenant=key.tenant, by=caller.key_id)
    return Response(status_code=204)


async def _require_room(services: Services, tenant: str) -> None:
    """Two requests at once may come to one key more: a bound on a list, not a promise."""
    now = services.clock()
    live = sum(key.lives(now) for key in await services.keys.list(tenant))
    if live >= MOST_LIVE_KEYS:
        raise RequestRefused(
            ProblemCode.TOO_MANY_KEYS,
            f"A tenant may have {MOST_LIVE_KEYS} live API keys; revoke one that is not needed.",
        )


def _answer(view: BaseModel, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    content = view.model_dump_json()
    return Response(content, status, headers=headers, media_type="application/json")
