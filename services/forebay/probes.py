"""The small port of every process without an HTTP API: /livez, /readyz, /metrics.

Liveness depends on nothing but the loop: a probe that asks the store would restart every process
when the store is away, which mends nothing. Readiness says whether the process can do its work.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from forebay.errors import ConfigurationError
from forebay.settings import ProbeSettings
from forebay.telemetry.metrics import CONTENT_TYPE, Metrics


class Probes:
    """Serves the probes while entered.

    Args:
        ready: None when the process can work, else why not, in a few words.
    """

    def __init__(
        self, settings: ProbeSettings, metrics: Metrics, ready: Callable[[], str | None]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ready = ready
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        host, port = self._settings.probe_host, self._settings.probe_port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"FOREBAY_PROBE_PORT: cannot listen on {host}:{port} ({error.strerror}); "
                "name a free port, or 0 to take any"
            ) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._runner.addresses[0][1])

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._ready()
        return web.Response(text=f"{reason or 'ok'}\n", status=503 if reason else 200)

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})
