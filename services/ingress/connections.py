"""All connections of a server: bounded in number, and none of them may stand still.

Theory of operation. A caller can hold a connection in four ways: send no head, or a byte of it now
and then; go on sending a body that was answered already; take no answer; or do nothing between two
requests, for which uvicorn has a timer. One look a second over all connections finds the first
three: a timer for each request would cost every request something. When there is no place left, the
connection that has waited longest for its caller makes way for a new one: for a request that is not
there in whole, or for an answer to be taken. So slow callers lock nobody out: neither the others,
nor the probe that decides whether this process lives.

How long a body may take is up to who reads it (`ingress.body`), and how many may wait for a job is
up to `ingress.waiting_places`.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Protocol

from forebay.telemetry.metrics import Metrics
from ingress.settings import PressureSettings

LOOK_S = 1.0
SPARE_FILES = 256
"""For the store, the broker, the log and what a library opens."""


class Held(Protocol):
    """One connection, as it is seen from here."""

    def give_way(self) -> None:
        """End it at once: another one takes its place."""

    def look(self, now: float) -> str | None:
        """End it if its caller is too slow; which way of being slow it was."""


class Connections:
    """Those that are open, and which of them wait for their callers."""

    def __init__(self, settings: PressureSettings, metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self._most = most_connections(settings.max_connections)
        self._open: set[Held] = set()
        self._waiting: dict[Held, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, one: Held) -> bool:
        """Whether there is a place for it; if so it has it."""
        if len(self._open) >= self._most and not self._make_way():
            self._metrics.connections_cut.labels("full").inc()
            return False
        self._open.add(one)
        self._waiting[one] = None
        return True

    def _make_way(self) -> bool:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self.closed(oldest)
        oldest.give_way()
        self._metrics.connections_cut.labels("gave way").inc()
        return True

    def begins(self, one: Held) -> None:
        """A head is there: from now on it waits for the rest of the request."""
        self._waiting.pop(one, None)
        self.waits(one)

    def asks(self, one: Held) -> None:
        """Its request is there: it is the server's turn."""
        self._waiting.pop(one, None)

    def waits(self, one: Held) -> None:
        """It is its caller's turn: to send the next head, or to take of an answer."""
        if one in self._open:
            self._waiting[one] = None

    def closed(self, one: Held) -> None:
        """It is gone."""
        self._open.discard(one)
        self._waiting.pop(one, None)

    async def watch(self) -> None:
        """Look at all of them for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_S)
            now = clock()
            for one in tuple(self._open):
                if (why := one.look(now)) is not None:
                    self._metrics.connections_cut.labels(why).inc()


def most_connections(wanted: int) -> int:
    """How many connections there may be: each needs an open file, and some are for others.

    The soft limit of a process is often 1024 for reasons of the past, and it may raise its own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + SPARE_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(min(wanted, soft - SPARE_FILES), 1)
