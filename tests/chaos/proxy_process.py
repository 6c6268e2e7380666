"""Proxies in a process of their own: what passes them must not wait for the work of the test.

The callers, the ledger and the observer keep the test's loop busy, and a store is given up after
2.5 s: a link must not be slower than its fault makes it.

async with proxy_process(directory, seed, control, ports) as proxies:
    proxies[0].lead_to("127.0.0.1", 5672)
    proxies[0].inject(Fault.HELD)
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import uvloop

from forebay.local.child import Child
from forebay.local.environment import ROOT, base_environment
from forebay.local.ports import HOST
from forebay.testing.polling import until

from .proxy import Fault, FaultProxy

ANSWERS_WITHIN_S = 30.0


class RemoteProxy:
    """One `FaultProxy` of the other process; each call returns when it is done there."""

    def __init__(self, port: int, control: socket.socket) -> None:
        self.port = port
        self._control = control

    def lead_to(self, host: str, port: int) -> None:
        """See `FaultProxy.lead_to`."""
        self._ask("lead_to", host=host, port=port)

    def inject(self, fault: Fault) -> None:
        """See `FaultProxy.inject`."""
        self._ask("inject", fault=fault)

    def clear(self) -> None:
        """See `FaultProxy.clear`."""
        self._ask("clear")

    @property
    def harmed(self) -> int:
        """See `FaultProxy.harmed`."""
        return int(self._ask("look")["harmed"])

    @property
    def open(self) -> int:
        """See `FaultProxy.open`."""
        return int(self._ask("look")["open"])

    def _ask(self, what: str, **more: Any) -> dict[str, Any]:
        line = json.dumps({"proxy": self.port, "do": what, **more}) + "\n"
        self._control.sendall(line.encode())
        answer = b""
        while not answer.endswith(b"\n"):
            answer += (part := self._control.recv(4096))
            assert part, "the proxies' process has ended; see proxies.log"
        found: dict[str, Any] = json.loads(answer)
        return found


@asynccontextmanager
async def proxy_process(
    directory: Path, seed: int, control: int, ports: Sequence[int]
) -> AsyncIterator[list[RemoteProxy]]:
    """A proxy on each port, told what to do over the port `control`; they end with the block."""
    command = [sys.executable, "-m", "tests.chaos.proxy_process", str(seed), str(control)]
    log = directory / "proxies.log"
    child = await Child.start([*command, *map(str, ports)], base_environment(), ROOT, log)
    try:
        with closing(socket.socket()) as told:

            async def listening() -> bool:
                assert child.running, child.last_line()
                return told.connect_ex((HOST, control)) == 0

            await until(listening)
            told.settimeout(ANSWERS_WITHIN_S)
            yield [RemoteProxy(port, told) for port in ports]
    finally:
        await child.stop(5)


class Obeying:
    """The other side: does as it is told, line by line."""

    def __init__(self, proxies: Sequence[FaultProxy]) -> None:
        self._proxies = {proxy.port: proxy for proxy in proxies}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Obey until the test has gone."""
        while line := await reader.readline():
            asked = json.loads(line)
            proxy = self._proxies[asked["proxy"]]
            match asked["do"]:
                case "lead_to":
                    proxy.lead_to(asked["host"], asked["port"])
                case "inject":
                    await proxy.inject(Fault(asked["fault"]))
                case "clear":
                    await proxy.clear()
            said = {"harmed": proxy.harmed, "open": proxy.open}
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
        writer.close()


async def main(seed: int, control: int, ports: Sequence[int]) -> None:
    """Serve until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(FaultProxy(port, seed + n))
            for n, port in enumerate(ports)
        ]
        await asyncio.start_server(Obeying(proxies).serve, HOST, control)
        await ended.wait()


if __name__ == "__main__":
    seed, control, *ports = map(int, sys.argv[1:])
    uvloop.run(main(seed, control, ports))
