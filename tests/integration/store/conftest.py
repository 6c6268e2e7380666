from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from forebay.settings import MongoDriver, StoreSettings
from forebay.store.mongo import MongoJobStore, open_store


def settings_for(url: str, driver: str = "pymongo", **changes: Any) -> StoreSettings:
    fields: dict[str, Any] = {"mongodb_url": SecretStr(url), "mongodb_driver": MongoDriver(driver)}
    return StoreSettings(**{**fields, **changes})


@pytest.fixture(scope="session", params=["pymongo", "motor"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
async def database(mongodb_url: str) -> AsyncIterator[str]:
    """The name of this directory's own database on the shared server."""
    name = f"integration_{uuid.uuid4().hex[:8]}"
    yield name
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    async with client:
        await client.drop_database(name)


@pytest.fixture
async def store(mongodb_url: str, database: str, driver: str) -> AsyncIterator[MongoJobStore]:
    settings = settings_for(mongodb_url, driver, mongodb_database=database)
    async with open_store(settings) as store:
        await store.prepare()
        yield store


@pytest.fixture
async def raw(mongodb_url: str, database: str) -> AsyncIterator[Any]:
    """The database itself, to look behind the store."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url, tz_aware=True)
    async with client:
        yield client[database]
