"""What probes and monitoring ask."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from forebay.telemetry.metrics import CONTENT_TYPE
from ingress.dependencies import services_of
from ingress.problems import ProblemCode, RequestRefused, store_unavailable
from ingress.routes.described import problems
from ingress.routes.direct import DirectRoute

router = APIRouter(route_class=DirectRoute, tags=["operation"])

_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get(
    "/livez", summary="Alive?", responses={200: {"description": "The loop turns.", **_TEXT}}
)
async def livez(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    """Depends on nothing but the event loop."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    summary="Ready?",
    responses={200: {"description": "Jobs can be accepted.", **_TEXT}, **problems(503)},
)
async def readyz(request: Request) -> Response:
    """Whether the store can take a write, and no stop was asked for.

    The broker does not matter: a 202 does not need it.
    """
    readiness = services_of(request).readiness
    if readiness.leaving:
        raise RequestRefused(
            ProblemCode.STOPPING, "This process was asked to stop; callers should go elsewhere."
        )
    if not await readiness.ready():
        raise store_unavailable("No job can be accepted.")
    return PlainTextResponse("ok\n")


@router.get(
    "/metrics",
    summary="Metrics",
    responses={200: {"description": "In the Prometheus text format.", **_TEXT}},
)
async def metrics(request: Request) -> Response:
    """What the process counts."""
    content = services_of(request).metrics.render()
    return Response(content, headers={"Content-Type": CONTENT_TYPE})
