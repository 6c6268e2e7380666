from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forebay.local.ports import HOST, Ports
from tests.chaos.proxy import Fault
from tests.chaos.proxy_process import RemoteProxy, proxy_process


@asynccontextmanager
async def leading_to_an_echo(directory: Path) -> AsyncIterator[list[RemoteProxy]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionResetError:
            pass  # as it should be
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    ports = Ports(lambda _: None)
    taken = [ports.take("a proxy") for _ in range(2)]
    async with proxy_process(directory, 1, ports.take("control"), taken) as proxies:
        for proxy in proxies:
            proxy.lead_to(*server.sockets[0].getsockname())
        yield proxies
    server.close()


async def said(proxy: RemoteProxy, words: bytes = b"water") -> bytes:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(words)
        return await reader.readexactly(len(words))
    finally:
        writer.close()


async def test_proxies_of_another_process_do_as_they_are_told_each_for_itself(tmp_path: Path):
    async with leading_to_an_echo(tmp_path) as (harmed, well):
        assert await said(harmed) == b"water"
        harmed.inject(Fault.REFUSED)
        with pytest.raises(ConnectionRefusedError):
            await said(harmed)
        assert await said(well) == b"water"
        harmed.clear()
        assert await said(harmed) == b"water"


async def test_what_was_harmed_is_told_across_the_processes(tmp_path: Path):
    async with leading_to_an_echo(tmp_path) as (harmed, well):
        reader, writer = await asyncio.open_connection(HOST, harmed.port)
        writer.write(b"water")
        assert await reader.readexactly(5) == b"water"
        assert (harmed.open, harmed.harmed) == (1, 0)
        harmed.inject(Fault.RESET)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert (harmed.harmed, well.harmed) == (1, 0)
        writer.close()


async def test_a_process_that_is_gone_is_not_taken_for_one_that_harmed_nothing(tmp_path: Path):
    async with leading_to_an_echo(tmp_path) as (harmed, _):
        pass
    with pytest.raises((AssertionError, OSError)):
        assert harmed.harmed == 0
