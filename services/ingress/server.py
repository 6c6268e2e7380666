"""uvicorn under the process's own signals.

SIGTERM begins the lame duck time: everybody is served as before, and every answer says `Connection:
close`. A load balancer learns of the end later than the process does, and a keep-alive connection
that is closed while idle is an error to whoever was just sending on it; so callers are asked to let
go of theirs. Then: stop accepting connections, let the waiting callers go with what is known,
finish what is in flight within the grace period. A second signal ends at once. Draining the pump
and closing the connections to store and broker is the composition root's, after this.

Limit: a connection on which nothing was sent for the whole lame duck time is closed at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from forebay.errors import ConfigurationError
from forebay.process import StopSignals
from ingress.connections import Connections
from ingress.protocol import BoundedProtocol
from ingress.settings import IngressSettings

KEEP_ALIVE_S = 65
"""Longer than the 60 s after which load balancers drop an idle connection: they must be first."""
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Stop:
    """How the server hears of its end, and whom it tells."""

    signals: StopSignals
    on_leave: Callable[[], None]
    """Called when the lame duck time begins."""
    on_stop: Callable[[], None]
    """Called when it is over: no caller may wait any longer."""


class IngressServer(uvicorn.Server):
    """uvicorn's server, stopped by `StopSignals` and not by handlers of its own."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, stop: Stop, lame_duck_s: float
    ) -> None:
        super().__init__(config)
        self._all = connections
        self._stop = stop
        self._lame_duck_s = lame_duck_s

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Follow the process's signals; uvicorn's own way would end the process by the signal."""
        obeying = asyncio.create_task(self._obey(), name="ingress.signals")
        watching = asyncio.create_task(self._all.watch(), name="ingress.connections")
        try:
            yield
        finally:
            obeying.cancel()
            watching.cancel()

    async def _obey(self) -> None:
        signals = self._stop.signals
        await signals.drain.wait()
        self._stop.on_leave()
        self._ask_to_let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lame_duck_s):
                await signals.end_now.wait()
        self.should_exit = True
        self._stop.on_stop()
        await signals.end_now.wait()
        self.force_exit = True

    def _ask_to_let_go(self) -> None:
        """End each connection with its next answer, and with the one under way."""
        # uvicorn makes its default headers of these, once a second.
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self.server_state.connections:
            if isinstance(connection, BoundedProtocol):
                connection.end_after_answer()


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
    app: ASGIApp, settings: IngressSettings, connections: Connections, stop: Stop
) -> IngressServer:
    """The server of the application; `await serve(sockets=[listen(settings)])` runs it."""
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, connections),  # type: ignore[arg-type] # it is what makes them
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
    return IngressServer(config, connections, stop, settings.lame_duck_s)
