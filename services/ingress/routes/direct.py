"""A route that is documented like any other and called without the framework's machinery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from ingress.access import Access, access_of
from ingress.bodies import give_back
from ingress.dependencies import services_of

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """The endpoint takes the request and answers with a ready response; nothing is in between.

    Dependency injection, body parsing and response models are passed by, which is about 200 us a
    request; the endpoint does its own. It stays an `APIRoute`, so the API description is made from
    it: what the framework cannot see is said in `openapi_extra`.

    Who calls is asked first, as `ingress.access` says for the route.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        access = access_of(self.methods or (), path)
        admitted = endpoint if access is Access.PUBLIC else _guarded(endpoint, access)
        self.app = request_response(admitted)


def _guarded(endpoint: Endpoint, access: Access) -> Endpoint:
    async def admit_first(request: Request) -> Response:
        caller = await services_of(request).gate.admit(request, access)
        try:
            response = await endpoint(request)
        finally:
            give_back(request)
        if caller.headers:
            response.headers.update(caller.headers)
        return response

    return admit_first
