"""A real HTTP server on the loopback that answers as a test says and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class LocalApi:
    """Set `respond` (or use `answers`, `streams`), point a client at `url`, look at `seen`."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    respond: Respond | None = None
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def answers(self, body: object, status: int = 200, **headers: str) -> None:
        """Answer every request with this JSON (bytes go out as they are)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        said = {"Content-Type": "application/json"}
        said.update({name.replace("_", "-"): value for name, value in headers.items()})

        async def respond(_: web.Request) -> web.Response:
            return web.Response(status=status, body=data, headers=said)

        self.respond = respond

    def streams(self, events: list[bytes], *, hold: bool = False) -> None:
        """Answer with these server-sent events; `hold` then says nothing more and never ends."""

        async def respond(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for event in events:
                await response.write(event)
            self.arrived.set()
            if hold:
                await asyncio.Event().wait()
            return response

        self.respond = respond

    def hangs(self) -> None:
        """Take the request and say nothing."""

        async def respond(_: web.Request) -> web.StreamResponse:
            self.arrived.set()
            await asyncio.Event().wait()
            raise AssertionError

        self.respond = respond

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                request.headers.copy(),
                await request.read(),
            )
        )
        assert self.respond is not None
        try:
            return await self.respond(request)
        except asyncio.CancelledError:
            self.gone.set()
            raise
