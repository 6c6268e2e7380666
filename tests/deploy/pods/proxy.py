"""A Service's address: runs inside a container of its own, and needs the standard library only.

New connections go to a ready endpoint by chance, and are refused when there is none; connections
that are there live on whatever becomes of the endpoints, as with kube-proxy. Who controls it sends
one JSON line, {"80": [["172.18.0.5", 8080]], ...}, to the control port and gets a line back.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal

CONTROL_PORT = 10256
_ANYWHERE = "0.0.0.0"  # noqa: S104  inside a container of its own
_BACKLOG = 1024
_CHUNK = 65536


class Balancer:
    """The listeners of one Service, by port; open only while there is an endpoint."""

    def __init__(self) -> None:
        self._endpoints: dict[int, list[tuple[str, int]]] = {}
        self._servers: dict[int, asyncio.Server] = {}

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one change of the endpoints."""
        asked = json.loads(await reader.readline())
        for port, endpoints in asked.items():
            await self._set(int(port), [(host, number) for host, number in endpoints])
        writer.write(b"ok\n")
        await writer.drain()
        writer.close()

    async def _set(self, port: int, endpoints: list[tuple[str, int]]) -> None:
        self._endpoints[port] = endpoints
        server = self._servers.get(port)
        if endpoints and server is None:
            self._servers[port] = await asyncio.start_server(
                lambda reader, writer: self._serve(port, reader, writer),
                _ANYWHERE,
                port,
                backlog=_BACKLOG,
            )
        elif not endpoints and server is not None:
            del self._servers[port]
            server.close()

    async def _serve(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            host, number = random.choice(self._endpoints[port])
            far_reader, far_writer = await asyncio.open_connection(host, number)
        except (OSError, IndexError):
            writer.transport.abort()  # the endpoint refused: so does the Service
            return
        ways = ((reader, far_writer), (far_reader, writer))
        await asyncio.gather(*(_carry(source, sink) for source, sink in ways))
        for end in (writer, far_writer):
            end.close()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry one direction to its end; an end is passed on as an end, a break as a break."""
    try:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        sink.transport.abort()


async def main() -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    balancer = Balancer()
    async with await asyncio.start_server(balancer.control, _ANYWHERE, CONTROL_PORT):
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
