"""How often and how widely one host is called, over all jobs of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_SWEEP_ABOVE = 1000
"""Hosts remembered before the idle ones are forgotten."""


class HostBusy(Exception):
    """The host's turn does not come within the patience given."""


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore
    next_start: float = field(default=float("-inf"))
    users: int = 0


class Politeness:
    """Gives turns on hosts: at most so many at once, and starts at least a delay apart.

    Args:
        per_host: requests in flight to one host at most.
        clock: a monotonic clock, in seconds.
        sleep: waits so many seconds of that clock.
    """

    def __init__(
        self,
        per_host: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._per_host = per_host
        self._clock = clock
        self._sleep = sleep
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(
        self, name: str, delay_s: float, patience_s: float | None = None
    ) -> AsyncIterator[None]:
        """Hold a turn on a host; raises `HostBusy` when it does not come within the patience."""
        host = self._host(name)
        host.users += 1
        try:
            began = self._clock()
            await self._slot(host, patience_s)
            try:
                left = None if patience_s is None else began + patience_s - self._clock()
                await self._start(host, delay_s, left)
                yield
            finally:
                host.slots.release()
        finally:
            host.users -= 1

    async def _slot(self, host: _Host, patience_s: float | None) -> None:
        try:
            async with asyncio.timeout(patience_s):
                await host.slots.acquire()
        except TimeoutError:
            raise HostBusy from None

    async def _start(self, host: _Host, delay_s: float, patience_s: float | None) -> None:
        now = self._clock()
        start = max(now, host.next_start)
        if patience_s is not None and start - now > patience_s:
            raise HostBusy
        # Taken before the wait, so that the next in line reckons with it.
        host.next_start = start + delay_s
        if start > now:
            await self._sleep(start - now)

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _SWEEP_ABOVE:
                self._forget_idle()
            host = self._hosts[name] = _Host(asyncio.Semaphore(self._per_host))
        return host

    def _forget_idle(self) -> None:
        now = self._clock()
        self._hosts = {
            name: host for name, host in self._hosts.items() if host.users or host.next_start > now
        }
