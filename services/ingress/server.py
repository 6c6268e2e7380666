"""uvicorn under the process's own signals.

SIGTERM: stop accepting connections, let the waiting callers go with what is known, finish what is
in flight within the grace period. A second signal ends at once. Draining the pump and closing the
connections to store and broker is the composition root's, after this.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.types import ASGIApp

from forebay.errors import ConfigurationError
from forebay.process import StopSignals
from ingress.protocol import BoundedProtocol
from ingress.settings import IngressSettings

KEEP_ALIVE_S = 65
"""Longer than the 60 s after which load balancers drop an idle connection: they must be first."""


class IngressServer(uvicorn.Server):
    """uvicorn's server, stopped by `StopSignals` and not by handlers of its own."""

    def __init__(
        self, config: uvicorn.Config, signals: StopSignals, on_stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._signals = signals
        self._on_stop = on_stop

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Follow the process's signals; uvicorn's own way would end the process by the signal."""
        obeying = asyncio.create_task(self._obey(), name="ingress.signals")
        try:
            yield
        finally:
            obeying.cancel()

    async def _obey(self) -> None:
        await self._signals.drain.wait()
        self.should_exit = True
        self._on_stop()
        await self._signals.end_now.wait()
        self.force_exit = True


def listen(settings: IngressSettings) -> socket.socket:
    """A bound socket; raises `ConfigurationError` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"FOREBAY_INGRESS_PORT: cannot listen on {settings.host}:{settings.port} "
            f"({error.strerror}); name a free port"
        ) from None
    return listener


def build_server(
    app: ASGIApp, settings: IngressSettings, signals: StopSignals, on_stop: Callable[[], None]
) -> IngressServer:
    """The server of the application; `await serve(sockets=[listen(settings)])` runs it."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=settings.backlog,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(round(settings.grace_s), 1),
    )
    return IngressServer(config, signals, on_stop)
