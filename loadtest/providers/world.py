"""The simulated outside world: two listeners, `providers` for APIs and `site` for a web site."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from loadtest.providers.anthropic import Anthropic
from loadtest.providers.behaviour import PROFILES, Kind, Profile
from loadtest.providers.calls import CallLog
from loadtest.providers.desk import Desk
from loadtest.providers.exchange import Provider
from loadtest.providers.firecrawl import Firecrawl
from loadtest.providers.openai import OpenAI
from loadtest.providers.search import Brave, SearXNG, Serper, Tavily
from loadtest.providers.sink import Sink
from loadtest.providers.site import Site

_BODY_LIMIT = 32 * 1024 * 1024
_BACKLOG = 4096
_STOP_S = 0.2  # calls that hang on purpose do not hold up the end


class Providers:
    """A running world; enter it with `async with`, in the caller's own event loop.

    Port 0 takes any free port. `log_path` appends each finished call as a JSON line.
    Raises KeyError for an unknown profile name, OSError when a port is in use.
    """

    def __init__(
        self,
        profile: str | Profile = "quiet",
        seed: int = 0,
        host: str = "127.0.0.1",
        ports: tuple[int, int] = (0, 0),
        log_path: Path | None = None,
    ) -> None:
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.calls = CallLog(log_path)
        self.sink = Sink()
        """Hears webhooks."""
        self.providers_url = ""
        self.site_url = ""
        self._seed = seed
        self._host = host
        self._ports = ports
        self._desk = Desk(self.calls, self.profile, seed)
        self._runners: list[web.AppRunner] = []

    async def __aenter__(self) -> Self:
        try:
            self.providers_url = await self._listen(self._apis(), self._ports[0])
            self.site_url = await self._listen(self._web_site(), self._ports[1])
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    def reset(self) -> None:
        """Forget all calls and counts."""
        self.calls.reset()
        self._desk.reset()

    def _apis(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_LIMIT)
        seed = self._seed
        routes: tuple[tuple[str, str, Provider], ...] = (
            ("GET", "/searxng/search", SearXNG(seed)),
            ("GET", "/brave/res/v1/web/search", Brave(seed)),
            ("POST", "/tavily/search", Tavily(seed)),
            ("POST", "/serper/search", Serper(seed)),
            ("POST", "/openai/v1/chat/completions", OpenAI(seed)),
            ("POST", "/anthropic/v1/messages", Anthropic(seed)),
            ("POST", "/firecrawl/v1/scrape", Firecrawl(seed)),
            ("POST", "/firecrawl/v2/scrape", Firecrawl(seed)),
        )
        for method, path, provider in routes:
            app.router.add_route(method, path, partial(self._desk.take, provider=provider))
        app.add_routes(self.sink.routes())
        app.router.add_get("/_calls", self._show_calls)
        app.router.add_get("/_stats", self._show_stats)
        app.router.add_post("/_reset", self._forget)
        return app

    def _web_site(self) -> web.Application:
        app = web.Application()
        site = Site(self._seed, self.profile.crawl_delay_s)
        app.router.add_get("/{path:.*}", partial(self._desk.take, provider=site))
        return app

    async def _listen(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_S
        )
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self._host, port, backlog=_BACKLOG).start()
        address = runner.addresses[0]
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"http://{host}:{address[1]}"

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self.calls.close()

    async def _show_calls(self, request: web.Request) -> web.Response:
        kind = request.query.get("kind")
        if kind is not None and kind not in Kind.__members__.values():
            return web.json_response({"error": f"unknown kind: {kind}"}, status=400)
        found = self.calls.calls(job=request.query.get("job"), kind=Kind(kind) if kind else None)
        return web.json_response({"calls": [call.as_dict() for call in found]})

    async def _show_stats(self, _request: web.Request) -> web.Response:
        return web.json_response(self.calls.stats())

    async def _forget(self, _request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({"reset": True})
