"""A TCP proxy that harms a link between two processes, and counts what it really did.

async with FaultProxy(port) as proxy:
    proxy.lead_to("127.0.0.1", 5672)
    await proxy.inject(Fault.BLACK_HOLE)
    ...
    assert proxy.harmed             # else the fault did not happen
    await proxy.clear()

Theory of operation. Each connection is two ways, one for each direction; a way reads chunks and
writes them to the other side, and looks at the fault in force for every chunk. So a fault strikes
the connections that are open as well as those that come while it lasts. What a fault broke stays
broken after `clear`: only delays and a held link heal by themselves.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from forebay.local.ports import HOST
from forebay.tasks import end

CHUNK = 65536
AHEAD = 64
"""Chunks read and not yet passed on, in each direction: beyond it the sender feels the pressure."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with 0 s: a close is a reset


class Fault(StrEnum):
    """What can be wrong with a link."""

    LATENCY = "latency"
    """Every chunk is late by a varying time; the order stays."""
    HELD = "held"
    """Nothing passes, as in a network that is parted; all of it passes when the fault is over."""
    BLACK_HOLE = "black hole"
    """Bytes are taken and never come out, of new connections too. One that lost some is silent for
    good, to its very end, of which the other side does not hear."""
    RESET = "reset"
    """Open connections are reset, and each new one after some bytes."""
    SLICED = "sliced"
    """The head of every chunk comes byte by byte or nearly so, with pauses; the rest in pieces."""
    DEAF = "half-closed, deaf"
    """The server says that it has finished sending, and nothing it says after that comes out."""
    MUTE = "half-closed, mute"
    """The client says that it has finished sending, and nothing it says after that comes out."""
    REFUSED = "refused"
    """Open connections end in order, and nobody listens."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How much; times in seconds."""

    delay_s: float = 0.1
    jitter_s: float = 0.2
    """Added to the delay, from none to all of it."""
    passes_bytes: int = 2000
    """A new connection is reset after up to so many bytes."""
    slice_bytes: int = 7
    sliced_bytes: int = 64
    """The head of a chunk that is cut into slices."""
    pause_s: float = 0.002


class FaultProxy:
    """Listens on 127.0.0.1 and leads to one target; entered means listening."""

    def __init__(self, port: int, seed: int = 0, strength: Strength = Strength()) -> None:
        self.port = port
        self.strength = strength
        self.counts: Counter[str] = Counter()
        """What was done, over the proxy's life: `connections`, `bytes_passed`, and of the harm
        `bytes_delayed`, `bytes_held`, `bytes_swallowed`, `bytes_sliced`, `connections_reset`,
        `connections_half_closed`, `connections_ended`."""
        self.fault: Fault | None = None
        self.freed = asyncio.Event()
        """Set while nothing is held back."""
        self.chance = random.Random(seed)
        self._target: tuple[str, int] | None = None
        self._server: asyncio.Server | None = None
        self._open: dict[_Connection, asyncio.Task[None]] = {}
        self._harm_before = 0
        self.freed.set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_listening()
        for connection in list(self._open):
            connection.reset()
        await end(*self._open.values())

    def lead_to(self, host: str, port: int) -> None:
        """Where connections from now on lead; before it is said, they are reset."""
        self._target = (host, port)

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._open)

    @property
    def harmed(self) -> int:
        """How many bytes or connections the latest fault really struck."""
        return self._harm() - self._harm_before

    async def inject(self, fault: Fault) -> None:
        """Let this fault strike until `clear`; it takes the place of another one."""
        await self.clear()
        self._harm_before = self._harm()
        self.fault = fault
        match fault:
            case Fault.HELD:
                self.freed.clear()
            case Fault.RESET:
                for connection in list(self._open):
                    self.counts["connections_reset"] += connection.reset()
            case Fault.DEAF | Fault.MUTE:
                for connection in list(self._open):
                    connection.half_close(fault)
            case Fault.REFUSED:
                await self._stop_listening()
                for connection in list(self._open):
                    self.counts["connections_ended"] += connection.end()
            case _:
                pass  # seen chunk by chunk

    async def clear(self) -> None:
        """No fault from now on."""
        self.fault = None
        self.freed.set()
        if self._server is None:
            await self._listen()

    def _harm(self) -> int:
        passed = self.counts["bytes_passed"] + self.counts["connections"]
        return self.counts.total() - passed

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            if self._target is None:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(self, (reader, writer), (far_reader, far_writer))
        self._open[connection] = asyncio.create_task(connection.carry(), name="proxied connection")
        self._open[connection].add_done_callback(lambda _: self._open.pop(connection))


_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One connection of a client, and the one to the server that stands for it."""

    def __init__(self, proxy: FaultProxy, client: _End, server: _End) -> None:
        self._proxy = proxy
        self._writers = client[1], server[1]
        self._requests = _Way(proxy, self, client[0], server[1])
        self._answers = _Way(proxy, self, server[0], client[1])
        self.dead = False
        """Whether it lost bytes to a black hole: nothing passes it any more, not even its end."""
        bound = proxy.strength.passes_bytes
        self._passes = proxy.chance.randrange(bound) if proxy.fault is Fault.RESET else None

    async def carry(self) -> None:
        """Carry both ways to their ends; a break of one side is a break for the other."""
        if self._proxy.fault in {Fault.DEAF, Fault.MUTE}:
            self.half_close(self._proxy.fault)
        ways = self._requests, self._answers
        tasks = [asyncio.create_task(part) for way in ways for part in (way.read(), way.write())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if any(isinstance(task.exception(), OSError) for task in done):
                self.reset()
        finally:
            await end(*tasks)
            await asyncio.gather(*tasks, return_exceptions=True)  # all breaks are one
            self.end()

    def half_close(self, fault: Fault) -> None:
        """End one direction."""
        way = self._requests if fault is Fault.MUTE else self._answers
        if way.shut():
            self._proxy.counts["connections_half_closed"] += 1

    def spend(self, size: int) -> None:
        """Note bytes that pass; raises `ConnectionResetError` when they were too many."""
        if self._passes is None:
            return
        self._passes -= size
        if self._passes < 0:
            self._proxy.counts["connections_reset"] += 1
            raise ConnectionResetError

    def reset(self) -> bool:
        """RST to both sides; False when it was over already."""
        was_open = not any(writer.is_closing() for writer in self._writers)
        for writer in self._writers:
            _reset(writer)
        return was_open

    def end(self) -> bool:
        """FIN to both sides; False when it was over already."""
        was_open = not any(writer.is_closing() for writer in self._writers)
        for writer in self._writers:
            writer.close()
        return was_open


class _Way:
    """One direction of a connection."""

    def __init__(
        self,
        proxy: FaultProxy,
        connection: _Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._source = source
        self._sink = sink
        self._shut = False
        self._due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)

    def shut(self) -> bool:
        """Say the end of this direction; False when that was said before."""
        if self._shut or self._sink.is_closing():
            return False
        self._shut = True
        with suppress(OSError):  # the other side may have gone meanwhile
            self._sink.write_eof()
        return True

    async def read(self) -> None:
        """Take chunks as they come, and say of each when it is due."""
        due = 0.0
        while data := await self._take():
            if not self._swallows(len(data)):
                due = max(due, self._due_now(len(data)))
                await self._due.put((due, data))
        await self._due.put((due, b""))

    async def _take(self) -> bytes:
        try:
            return await self._source.read(CHUNK)
        except OSError:
            if self._connection.dead:
                return b""  # the other side does not hear of it
            raise

    def _swallows(self, size: int) -> bool:
        if self._proxy.fault is Fault.BLACK_HOLE:
            self._connection.dead = True
        if self._connection.dead or self._shut:
            self._proxy.counts["bytes_swallowed"] += size
            return True
        return False

    def _due_now(self, size: int) -> float:
        now = asyncio.get_running_loop().time()
        if self._proxy.fault is not Fault.LATENCY:
            return now
        self._proxy.counts["bytes_delayed"] += size
        strength = self._proxy.strength
        return now + strength.delay_s + strength.jitter_s * self._proxy.chance.random()

    async def write(self) -> None:
        """Pass on what is due, until the end."""
        loop = asyncio.get_running_loop()
        data = b"first"
        while data:
            due, data = await self._due.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not self._proxy.freed.is_set():
                self._proxy.counts["bytes_held"] += len(data)
                await self._proxy.freed.wait()
            await self._pass_on(data)
        if not self._connection.dead:
            self.shut()

    async def _pass_on(self, data: bytes) -> None:
        self._connection.spend(len(data))
        for piece, pause_s in self._pieces(data):
            if self._shut:
                return
            self._sink.write(piece)
            await self._sink.drain()
            self._proxy.counts["bytes_passed"] += len(piece)
            if pause_s:
                await asyncio.sleep(pause_s)

    def _pieces(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """The chunk as it is, or its head in slices and its rest in quarters, with pauses."""
        if self._proxy.fault is not Fault.SLICED:
            yield data, 0.0
            return
        strength, chance = self._proxy.strength, self._proxy.chance
        self._proxy.counts["bytes_sliced"] += len(data)
        at = 0
        while at < len(data):
            rest = len(data) // 4 + 1
            size = chance.randint(1, strength.slice_bytes) if at < strength.sliced_bytes else rest
            yield data[at : at + size], strength.pause_s
            at += size


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if not writer.is_closing() and raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
