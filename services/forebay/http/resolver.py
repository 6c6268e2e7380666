"""Names become addresses on threads of their own, for a bounded time.

The loop's own look-ups share one pool of threads with everything else of the process: names that
answer slowly, as a stranger's may, would keep MongoDB and RabbitMQ from being reached again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

LOOKUP_THREADS = 8
"""Look-ups at once; a further one waits for its turn, within its time."""
LOOKUP_TIMEOUT_S = 10.0
"""Two tries of the system's resolver, which waits 5 s for a server (resolv.conf(5))."""


class Resolver(AbstractResolver):
    """The system's resolver; starts no thread before the first look-up.

    A look-up that is given up still holds its thread until the system gives up too.

    Args:
        time_limit_s: bound in seconds of one look-up, the wait for a thread included.
        look_up: what is called on a thread, with the signature of `socket.getaddrinfo`.
    """

    def __init__(
        self,
        *,
        threads: int = LOOKUP_THREADS,
        time_limit_s: float = LOOKUP_TIMEOUT_S,
        look_up: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        self._time_limit_s = time_limit_s
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the name; raises `OSError`, of which `TimeoutError` is one."""
        ask = partial(
            self._look_up,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        try:
            async with asyncio.timeout(self._time_limit_s):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError:  # a label that is empty or too long
            raise socket.gaierror(socket.EAI_NONAME, "not a name") from None
        return [
            ResolveResult(
                hostname=host,
                host=_with_zone(*target),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, target in found
        ]

    async def close(self) -> None:
        """Start no further look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _with_zone(address: str, _port: int, _flow: int = 0, zone: int = 0) -> str:
    # A link-local address means nothing without its zone.
    return f"{address}%{zone}" if zone and "%" not in address else address
