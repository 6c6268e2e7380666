from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forebay.local.ports import HOST, Ports
from tests.chaos.proxy import Fault, FaultProxy, Strength

USUAL = Strength()
MESSAGE = b"the river as it comes, " * 40


class Echo:
    """A server that says back what it hears, and counts what it heard and how it ended."""

    def __init__(self) -> None:
        self.heard = 0
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        how = "in order"
        try:
            while data := await reader.read(65536):
                self.heard += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            how = "reset"
        writer.close()
        self.ended.put_nowait(how)

    async def heard_no_end(self) -> bool:
        """For as long as an end would need many times over."""
        try:
            async with asyncio.timeout(0.3):
                await self.ended.get()
        except TimeoutError:
            return True
        return False


class Caller:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, message: bytes = MESSAGE) -> None:
        self.writer.write(message)
        await self.writer.drain()

    async def hear(self, message: bytes = MESSAGE, within_s: float = 5) -> bytes:
        async with asyncio.timeout(within_s):
            return await self.reader.readexactly(len(message))

    async def hears_nothing(self) -> bool:
        """For as long as an answer would need many times over."""
        try:
            await self.hear(b"a", within_s=0.3)
        except TimeoutError:
            return True
        return False


class World:
    """Echo server, proxy, and callers that connect through it."""

    def __init__(self, proxy: FaultProxy, echo: Echo) -> None:
        self.proxy = proxy
        self.echo = echo
        self._callers: list[Caller] = []

    async def caller(self) -> Caller:
        self._callers.append(Caller(*await asyncio.open_connection(HOST, self.proxy.port)))
        return self._callers[-1]

    async def talking(self) -> Caller:
        """A caller who was answered, so its connection is there on both sides."""
        caller = await self.caller()
        await caller.say()
        assert await caller.hear() == MESSAGE
        return caller

    async def connects(self) -> bool:
        try:
            await self.caller()
        except ConnectionRefusedError:
            return False
        return True

    def hang_up(self) -> None:
        for caller in self._callers:
            caller.writer.close()


@asynccontextmanager
async def world(strength: Strength = USUAL) -> AsyncIterator[World]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, HOST, 0)
    ports = Ports(lambda _: None)
    async with FaultProxy(ports.take("a proxy"), seed=3, strength=strength) as proxy:
        proxy.lead_to(*server.sockets[0].getsockname())
        made = World(proxy, echo)
        try:
            yield made
        finally:
            made.hang_up()
            server.close()


async def test_without_a_fault_everything_passes_and_nothing_counts_as_harm():
    async with world() as here:
        caller = await here.talking()
        await caller.say(MESSAGE * 1000)
        assert await caller.hear(MESSAGE * 1000) == MESSAGE * 1000
        assert here.proxy.harmed == 0
        assert here.proxy.counts["bytes_passed"] == 2 * 1001 * len(MESSAGE)


async def test_an_end_is_passed_on_as_an_end():
    async with world() as here:
        caller = await here.talking()
        caller.writer.close()
        assert await here.echo.ended.get() == "in order"


async def test_a_break_is_passed_on_as_a_break():
    async with world() as here:
        caller = await here.talking()
        # Not read yet when the connection is closed: then the kernel resets it.
        await caller.say(MESSAGE * 10_000)
        caller.writer.transport.abort()
        assert await here.echo.ended.get() == "reset"


async def test_latency_delays_every_chunk_and_keeps_the_order():
    async with world(Strength(delay_s=0.05, jitter_s=0.1)) as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.LATENCY)
        began = asyncio.get_running_loop().time()
        for n in range(50):
            await caller.say(bytes([n]) * 100)
        said = b"".join(bytes([n]) * 100 for n in range(50))
        assert await caller.hear(said) == said
        took_s = asyncio.get_running_loop().time() - began
        assert took_s >= 0.1  # once in each direction
        assert here.proxy.counts["bytes_delayed"] == here.proxy.harmed == 2 * len(said)


async def test_latency_does_not_add_up_over_what_is_under_way_together():
    async with world(Strength(delay_s=0.2, jitter_s=0)) as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.LATENCY)
        began = asyncio.get_running_loop().time()
        await caller.say(MESSAGE * 2000)  # many chunks
        await caller.hear(MESSAGE * 2000)
        assert asyncio.get_running_loop().time() - began < 2.5


async def test_a_held_link_passes_nothing_and_then_everything():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.HELD)
        await caller.say()
        late = await here.caller()
        await late.say()
        assert await caller.hears_nothing()
        assert here.proxy.harmed >= len(MESSAGE)
        await here.proxy.clear()
        assert await caller.hear() == MESSAGE
        assert await late.hear() == MESSAGE


async def test_a_held_link_holds_ends_too():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.HELD)
        caller.writer.close()
        assert await here.echo.heard_no_end()
        await here.proxy.clear()
        assert await here.echo.ended.get() == "in order"


async def test_what_a_black_hole_took_never_comes_out_and_the_connection_is_silent_for_good():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.BLACK_HOLE)
        await caller.say()
        assert await caller.hears_nothing()
        assert here.echo.heard == len(MESSAGE)
        assert here.proxy.harmed == len(MESSAGE)
        await here.proxy.clear()
        await caller.say()
        assert await caller.hears_nothing()
        assert here.echo.heard == len(MESSAGE)


async def test_a_black_hole_takes_the_answer_as_well():
    async with world() as here:
        held = await here.talking()
        await here.proxy.inject(Fault.HELD)
        await held.say()
        assert await held.hears_nothing()
        await here.proxy.inject(Fault.BLACK_HOLE)  # the request goes through, its answer does not
        assert await held.hears_nothing()
        assert here.echo.heard == 2 * len(MESSAGE)
        assert here.proxy.harmed == len(MESSAGE)


async def test_nobody_hears_of_the_end_of_a_connection_that_a_black_hole_took():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.BLACK_HOLE)
        await caller.say()
        assert await caller.hears_nothing()
        caller.writer.transport.abort()
        await here.proxy.clear()
        assert await here.echo.heard_no_end()


async def test_a_black_hole_takes_new_connections_and_is_silent():
    async with world() as here:
        await here.proxy.inject(Fault.BLACK_HOLE)
        caller = await here.caller()
        await caller.say()
        assert await caller.hears_nothing()
        await here.proxy.clear()
        assert await here.talking()


async def test_a_reset_strikes_open_connections_at_once():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.RESET)
        with pytest.raises(ConnectionResetError):
            await caller.hear()
        assert await here.echo.ended.get() == "reset"
        assert here.proxy.harmed == here.proxy.counts["connections_reset"] == 1


async def test_while_resets_last_a_new_connection_breaks_after_some_bytes():
    async with world(Strength(passes_bytes=500)) as here:
        await here.proxy.inject(Fault.RESET)
        for n in range(1, 6):
            caller = await here.caller()
            await caller.say()
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await caller.hear()
            assert here.proxy.harmed == n
        await here.proxy.clear()
        assert await here.talking()


async def test_slices_come_in_order_and_none_is_missing():
    async with world(Strength(pause_s=0.001)) as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.SLICED)
        await caller.say()
        first = await caller.reader.read(65536)
        assert len(first) < len(MESSAGE)  # else nothing was cut
        assert first + await caller.hear(MESSAGE[len(first) :]) == MESSAGE
        assert here.proxy.harmed >= 2 * len(MESSAGE)


async def test_a_deaf_client_hears_the_servers_end_and_none_of_its_answers():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.DEAF)
        assert await caller.reader.read() == b""
        await caller.say()
        caller.writer.write_eof()
        assert await here.echo.ended.get() == "in order"
        assert here.echo.heard == 2 * len(MESSAGE)
        assert here.proxy.counts["connections_half_closed"] == 1


async def test_a_mute_client_is_over_for_the_server_and_heard_no_more():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.MUTE)
        assert await here.echo.ended.get() == "in order"
        assert await caller.reader.read() == b""  # the server's end, after ours
        assert here.echo.heard == len(MESSAGE)
        assert here.proxy.harmed == 1


@pytest.mark.parametrize("fault", [Fault.DEAF, Fault.MUTE])
async def test_new_connections_are_half_closed_too(fault: Fault):
    async with world() as here:
        await here.proxy.inject(fault)
        caller = await here.caller()
        assert await caller.reader.read() == b""
        assert here.proxy.harmed == 1
        await here.proxy.clear()
        assert await here.talking()


async def test_a_refusing_link_ends_what_is_open_and_listens_to_nobody():
    async with world() as here:
        caller = await here.talking()
        await here.proxy.inject(Fault.REFUSED)
        assert await caller.reader.read() == b""
        assert await here.echo.ended.get() == "in order"
        assert here.proxy.harmed == 1
        assert not await here.connects()
        await here.proxy.clear()
        assert await here.talking()


async def test_a_fault_takes_the_place_of_another():
    async with world() as here:
        await here.proxy.inject(Fault.REFUSED)
        await here.proxy.inject(Fault.HELD)
        caller = await here.caller()
        await caller.say()
        assert await caller.hears_nothing()
        await here.proxy.inject(Fault.LATENCY)
        assert await caller.hear() == MESSAGE


async def test_harm_is_counted_for_the_latest_fault_alone():
    async with world() as here:
        await here.talking()
        await here.proxy.inject(Fault.RESET)
        assert here.proxy.harmed == 1
        await here.proxy.inject(Fault.RESET)
        assert here.proxy.harmed == 0  # nobody was connected


async def test_a_target_that_is_not_there_is_a_broken_connection():
    async with world() as here:
        here.proxy.lead_to(HOST, Ports(lambda _: None).take("nobody"))
        caller = await here.caller()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await caller.hear()


async def test_leaving_ends_every_connection():
    async with world() as here:
        caller = await here.talking()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await caller.hear()
    assert here.proxy.open == 0
