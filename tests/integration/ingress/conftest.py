"""A real `python -m ingress` on a real MongoDB; the broker is not needed to accept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from forebay.local.mongodb import MongoServer
from tests.ingress_process import NOBODY, IngressProcess, serving


@pytest.fixture(scope="session")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoServer]:
    async with MongoServer(tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


@pytest.fixture
async def ingress(
    mongod: MongoServer, session: aiohttp.ClientSession
) -> AsyncIterator[IngressProcess]:
    settings = {"MONGODB_URL": mongod.url, "MONGODB_DATABASE": "ingress", "AMQP_URL": NOBODY}
    async with serving(session, **settings) as running:
        yield running
