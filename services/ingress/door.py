"""Who cannot be accepted in time is turned away at the door, before the request costs anything.

Under more than the process can accept, every request that is read, checked and then given up takes
time from one that could be accepted, its caller comes back, and at last nobody is accepted at all
(seen at 600 requests a second on two shared cores: 20 s without one accept). Accepts are served in
the order they came. So when the oldest of them has waited long, whoever comes now will wait as
long: a refusal costs a tenth of an accept, tells the caller for certain that there is no job, and
leaves the time to those who are inside.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from forebay.jobs import CALLER_KINDS
from ingress.dependencies import services_of
from ingress.error_handlers import respond
from ingress.problems import overloaded

SUBMISSIONS = frozenset({"/v1/jobs", *(f"/v1/{kind}" for kind in CALLER_KINDS)})


class Door:
    """ASGI middleware: submissions pass unless the desk is behind."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as ASGI applications do."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in SUBMISSIONS:
            request = Request(scope, receive)
            if services_of(request).desk.is_behind:
                await respond(request, overloaded())(scope, receive, send)
                return
        await self._app(scope, receive, send)
