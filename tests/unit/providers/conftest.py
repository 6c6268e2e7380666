from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from loadtest.providers import Providers


@pytest.fixture
async def world() -> AsyncIterator[Providers]:
    async with Providers(profile="quiet", seed=7) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session
