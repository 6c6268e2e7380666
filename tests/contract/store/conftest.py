from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from forebay.settings import MongoDriver, StoreSettings
from forebay.store import JobStore
from forebay.store.batches import BatchStore, MemoryBatchStore
from forebay.store.endpoints import EndpointStore, MemoryEndpointStore
from forebay.store.indexes import BATCHES, COLLECTIONS, ENDPOINTS, KEYS, PACES, RESULTS
from forebay.store.keys import KeyStore, MemoryKeyStore
from forebay.store.memory import MemoryJobStore
from forebay.store.mongo import MongoJobStore, open_store
from forebay.store.paces import MemoryPaceStore, PaceStore


@dataclass(frozen=True)
class Backend:
    """One implementation under the suite, and how to begin a test with it empty."""

    store: MongoJobStore | None = None
    database: Any = None

    async def empty(self) -> JobStore:
        if self.store is None:
            return MemoryJobStore(lambda: datetime.now(UTC))
        for name in COLLECTIONS:
            await self.database[name].delete_many({})
        return self.store

    async def no_batches(self) -> BatchStore:
        if self.store is None:
            return MemoryBatchStore()
        await self.database[BATCHES].delete_many({})
        return self.store.batches

    async def no_keys(self) -> KeyStore:
        if self.store is None:
            return MemoryKeyStore(lambda: datetime.now(UTC))
        await self.database[KEYS].delete_many({})
        return self.store.keys

    async def no_paces(self) -> PaceStore:
        if self.store is None:
            return MemoryPaceStore()
        await self.database[PACES].delete_many({})
        return self.store.paces

    async def no_endpoints(self) -> EndpointStore:
        if self.store is None:
            return MemoryEndpointStore()
        await self.database[ENDPOINTS].delete_many({})
        return self.store.endpoints

    async def lose_a_piece(self, store: JobStore) -> None:
        """Of a large result; memory keeps each in one."""
        if isinstance(store, MemoryJobStore):
            store._large.popitem()
        else:
            await self.database[RESULTS].delete_one({})


@pytest.fixture(scope="session", params=["memory", "pymongo", "motor"])
async def backend(request: pytest.FixtureRequest, mongodb_url: str) -> AsyncIterator[Backend]:
    if request.param == "memory":
        yield Backend()
        return
    settings = StoreSettings(
        mongodb_url=SecretStr(mongodb_url),
        mongodb_database=f"contract_{request.param}_{os.getpid()}",
        mongodb_driver=MongoDriver(request.param),
        mongodb_timeout_s=10,
    )
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    async with client, open_store(settings) as store:
        await store.prepare()
        yield Backend(store, client[settings.mongodb_database])
        await client.drop_database(settings.mongodb_database)


@pytest.fixture
async def batches(backend: Backend) -> BatchStore:
    return await backend.no_batches()


@pytest.fixture
async def keys(backend: Backend) -> KeyStore:
    return await backend.no_keys()


@pytest.fixture
async def paces(backend: Backend) -> PaceStore:
    return await backend.no_paces()


@pytest.fixture
async def endpoints(backend: Backend) -> EndpointStore:
    return await backend.no_endpoints()


@pytest.fixture
async def store(backend: Backend) -> JobStore:
    return await backend.empty()
