"""A real `python -m ingress` on a real MongoDB; the broker is not needed to accept."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from forebay.local.mongodb import MongoServer
from tests.ingress_process import NOBODY, IngressProcess, serving


@pytest.fixture(scope="session")
async def database(mongodb_url: str) -> AsyncIterator[str]:
    """The name of this directory's own database on the shared server."""
    name = f"ingress_{uuid.uuid4().hex[:8]}"
    yield name
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    async with client:
        await client.drop_database(name)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


@pytest.fixture
async def ingress(
    mongodb_url: str, database: str, session: aiohttp.ClientSession
) -> AsyncIterator[IngressProcess]:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    async with serving(session, **settings) as running:
        yield running


@pytest.fixture
async def ingress_on_own_mongodb(
    own_mongodb: MongoServer, session: aiohttp.ClientSession
) -> AsyncIterator[IngressProcess]:
    settings = {"MONGODB_URL": own_mongodb.url, "MONGODB_DATABASE": "ingress", "AMQP_URL": NOBODY}
    async with serving(session, **settings) as running:
        yield running
