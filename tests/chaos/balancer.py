"""A load balancer as a Kubernetes Service is one: by connection, over whoever is ready.

It asks each ingress' /readyz at a steady pace, each for itself, so that one that is slow to answer
keeps nobody from seeing that another is about to go. Every new connection goes to the next one that
said yes. It mends nothing: it repeats no connection and no request, so what an ingress does to a
caller is seen by the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from forebay.tasks import end
from forebay.testing.polling import pace

ASK_EVERY_S = 0.2
CHUNK = 64 * 1024


@dataclass
class Balancer:
    """Hands connections on to those that are ready."""

    behind: Collection[str]
    """The ingresses' URLs."""
    url: str = ""
    ready: set[str] = field(default_factory=set)
    turns: itertools.count[int] = field(default_factory=itertools.count)

    async def watch(self) -> None:
        """Ask all of them again and again whether they are ready."""
        timeout = aiohttp.ClientTimeout(total=1)
        # A connection for each question, as a kubelet asks.
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as asking,
        ):
            for url in self.behind:
                asking.create_task(self._ask(session, url))

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> None:
        async for _ in pace(1 / ASK_EVERY_S, 10_000_000):
            if await _is_ready(session, url):
                self.ready.add(url)
            else:
                self.ready.discard(url)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        with contextlib.closing(writer):
            ready = [url for url in self.behind if url in self.ready]
            if not ready:
                return
            parts = urlsplit(ready[next(self.turns) % len(ready)])
            try:
                there_reader, there_writer = await asyncio.open_connection(
                    parts.hostname, parts.port
                )
            except OSError:
                return
            with contextlib.closing(there_writer):
                await asyncio.gather(_pour(reader, there_writer), _pour(there_reader, writer))


@asynccontextmanager
async def balancing(urls: Collection[str]) -> AsyncIterator[Balancer]:
    """A balancer in front of these, on a port of its own."""
    balancer = Balancer(urls)
    watching = asyncio.create_task(balancer.watch(), name="balancer")
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    try:
        balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield balancer
    finally:
        server.close()
        await end(watching)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other; whichever ends, the other is told."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
