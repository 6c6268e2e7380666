"""The one place where what went wrong becomes an HTTP answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from forebay.errors import StoreUnavailable
from forebay.telemetry.events import LogEvent
from ingress.dependencies import services_of
from ingress.problems import (
    MEDIA_TYPE,
    Problem,
    ProblemCode,
    RequestRefused,
    rendered,
    store_unavailable,
)

Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]
_OUR_PATHS = re.compile(
    "|".join(
        (
            r"/v1/jobs(/replay|/job_[0-9a-f]{32}(/(result|cancel|retry|events))?)?",
            r"/v1/(search|crawl|llm)",
            r"/v1/batches(/batch_[0-9a-f]{32}(/(results|cancel|retry))?)?",
            r"/v1/webhook-endpoints(/we_[0-9a-f]{32}(/(secret|rotate-secret|test))?)?",
            r"/v1/webhook-deliveries(/msg_[0-9a-f]{32}(/redeliver)?)?",
            r"/v1/keys(/key_[0-9a-f]{32})?",
            r"/(livez|readyz|metrics|docs)",
        )
    )
)


def respond(request: Request, refused: RequestRefused) -> Response:
    """The problem document of a refusal; counted by its code."""
    request_id = f"req_{uuid7().hex}"
    problem = refused.to_problem(_instance(request), request_id)
    services_of(request).metrics.problems.labels(problem.code).inc()
    caller = getattr(request.state, "caller", None)
    quota = {} if caller is None else caller.headers
    return problem_response(problem, {**refused.headers, **quota})


def problem_response(problem: Problem, headers: Mapping[str, str]) -> Response:
    """The document as an HTTP answer, with its status and its `Retry-After`."""
    headers = {"Cache-Control": "no-store", **headers}
    if problem.request_id is not None:
        headers["X-Request-ID"] = problem.request_id
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(int(problem.retry_after_s))
    return Response(
        rendered(problem), status_code=problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def _instance(request: Request) -> str:
    # Only a path of ours is repeated; any other is the caller's text.
    path = request.url.path
    return path if _OUR_PATHS.fullmatch(path) else "/"


async def _on_refused(request: Request, error: RequestRefused) -> Response:
    return respond(request, error)


def _methods(request: Request) -> str:
    """All methods of a path. The framework knows those of the first route it meets."""
    path = request.url.path
    paths: Mapping[str, Mapping[str, Any]] = request.app.openapi()["paths"]
    operations = paths.get(path) or {
        method
        for template in paths
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path)
        for method in paths[template]
    }
    return ", ".join(sorted(method.upper() for method in operations)) or "GET"


async def _on_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return respond(
            request,
            RequestRefused(
                ProblemCode.METHOD_NOT_ALLOWED,
                "The path does not take this method; `Allow` has the ones it takes.",
                headers={"Allow": _methods(request)},
            ),
        )
    detail = "There is no such path; `/docs` shows those there are."
    return respond(request, RequestRefused(ProblemCode.NOT_FOUND, detail))


async def _on_store(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature
    return respond(request, store_unavailable("Nothing was changed."))


async def _on_gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature
    # The client left while sending its body: nothing was accepted and nobody reads this.
    return Response(status_code=400)


EXCEPTION_HANDLERS: dict[int | type[Exception], Handler] = {
    RequestRefused: _on_refused,
    HTTPException: _on_http,
    StoreUnavailable: _on_store,
    ClientDisconnect: _on_gone,
}


class LastResort:
    """ASGI middleware: a defect of ours is logged by its type and answered as a problem.

    The framework's own last handler logs the exception with its message, which may hold input.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as ASGI applications do."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = False

        async def watch(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001 - the last resort
            request = Request(scope, receive)
            refused = RequestRefused(ProblemCode.INTERNAL, "A defect of the service; it is logged.")
            response = respond(request, refused)
            services_of(request).logger.error(
                LogEvent.REQUEST_FAILED,
                request_id=response.headers["X-Request-ID"],
                error=type(error).__name__,
                at=_place(error),
            )
            if not began:
                await response(scope, receive, send)


def _place(error: BaseException) -> str:
    """File and line where it was raised: enough to find the defect, without any value."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
