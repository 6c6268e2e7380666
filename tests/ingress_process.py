"""The ingress as a process, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from forebay.testing.polling import until

ROOT = Path(__file__).parents[1]
NOBODY = "amqp://nobody:nothing@127.0.0.1:1/forebay"
"""A broker that is not there."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    path = f"{ROOT / 'services'}:{ROOT}"
    return kept | {"PYTHONPATH": path} | {f"FOREBAY_{k}": v for k, v in settings.items()}


@dataclass(slots=True)
class IngressProcess:
    """The process and where it listens."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> tuple[int | None, str]:
        """Its exit code and what it logged."""
        _, errors = await self.process.communicate()
        return self.process.returncode, errors.decode()

    async def ready(self, session: aiohttp.ClientSession) -> None:
        async def answers() -> bool:
            if self.process.returncode is not None:
                raise AssertionError((await self.ended())[1])
            try:
                async with session.get(f"{self.url}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return False

        await until(answers)


async def start(**settings: str) -> IngressProcess:
    port = int(settings.get("INGRESS_PORT") or free_port())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ingress",
        env=environment(**{"INGRESS_PORT": str(port), **settings}),
        stderr=asyncio.subprocess.PIPE,
    )
    return IngressProcess(process, port)


@asynccontextmanager
async def serving(session: aiohttp.ClientSession, **settings: str) -> AsyncIterator[IngressProcess]:
    """The process, ready; killed at the end if it is still there."""
    ingress = await start(**settings)
    try:
        await ingress.ready(session)
        yield ingress
    finally:
        if ingress.process.returncode is None:
            ingress.process.kill()
            await ingress.process.communicate()
