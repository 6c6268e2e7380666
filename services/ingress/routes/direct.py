"""A route that is documented like any other and called without the framework's machinery."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import request_response


class DirectRoute(APIRoute):
    """The endpoint takes the request and answers with a ready response; nothing is in between.

    Dependency injection, body parsing and response models are passed by, which is about 200 us a
    request; the endpoint does its own. It stays an `APIRoute`, so the API description is made from
    it: what the framework cannot see is said in `openapi_extra`.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(endpoint)
