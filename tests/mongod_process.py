"""A bare mongod for tests that care how it is set up; for all else there are shared servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from forebay.local.mongodb import find_mongod
from forebay.local.ports import Ports


def free_mongod_port() -> int:
    """A port for one server over several starts."""
    return Ports(lambda _: None).take("a mongod of this test")


@asynccontextmanager
async def mongod(folder: Path, port: int, *options: str) -> AsyncIterator[None]:
    """The server on its data in `folder`, answering; ended in order afterwards."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        str(find_mongod()),
        *("--dbpath", str(folder / "data"), "--port", str(port), "--bind_ip", "127.0.0.1"),
        *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
        # A member of several lingers for 15 s before it ends, for the sake of its callers.
        *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
        *options,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await _answers(port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answers(port: int) -> None:
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    async with client:
        await client.admin.command("ping")
