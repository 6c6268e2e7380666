from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from forebay.local.mongodb import MongoServer, find_mongod
from forebay.local.ports import Ports
from forebay.settings import MongoDriver, StoreSettings
from forebay.store.mongo import MongoJobStore, open_store


def settings_for(url: str, driver: str = "pymongo", **changes: Any) -> StoreSettings:
    fields: dict[str, Any] = {"mongodb_url": SecretStr(url), "mongodb_driver": MongoDriver(driver)}
    return StoreSettings(**{**fields, **changes})


@pytest.fixture(scope="session")
async def own_mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoServer]:
    """A server that tests here may freeze and kill, and leave running."""
    async with MongoServer(tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture(scope="session", params=["pymongo", "motor"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(own_mongod: MongoServer, driver: str) -> AsyncIterator[MongoJobStore]:
    async with open_store(settings_for(own_mongod.url, driver)) as store:
        await store.prepare()
        yield store


@pytest.fixture
async def raw(own_mongod: MongoServer) -> AsyncIterator[Any]:
    """The database itself, to look behind the store."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(own_mongod.url, tz_aware=True)
    async with client:
        yield client["forebay"]


@pytest.fixture(scope="session")
async def standalone_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A mongod that is no replica set."""
    folder = tmp_path_factory.mktemp("standalone")
    port = Ports(lambda _: None).take("standalone")
    url = f"mongodb://127.0.0.1:{port}/"
    process = await _start_mongod(folder, port)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    async with client:
        await client.admin.command("ping")
    yield url
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _start_mongod(folder: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(find_mongod()),
        *("--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"),
        *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
        stdout=asyncio.subprocess.DEVNULL,
    )
