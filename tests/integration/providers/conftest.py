from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from llm_worker.handler import LlmHandler
from llm_worker.handler import open_handler as open_llm_handler
from llm_worker.settings import LlmSettings
from loadtest.providers import Providers
from search_worker.handler import SearchHandler
from search_worker.handler import open_handler as open_search_handler
from search_worker.settings import SearchSettings
from tests.loopback import only_loopback


@pytest.fixture(autouse=True)
def _no_way_out() -> Iterator[None]:
    with only_loopback():
        yield


@pytest.fixture
async def world() -> AsyncIterator[Providers]:
    async with Providers(profile="quiet", seed=1) as running:
        yield running


@pytest.fixture
def search_settings(world: Providers) -> SearchSettings:
    said = {f"{name}_api_key": "key" for name in ("brave", "tavily", "serper")}
    for name in ("searxng", "brave", "tavily", "serper"):
        said[f"{name}_url"] = f"{world.providers_url}/{name}"
    return SearchSettings.model_validate(said)


@pytest.fixture
def llm_settings(world: Providers) -> LlmSettings:
    return LlmSettings.model_validate(
        {
            "base_url": f"{world.providers_url}/openai/v1",
            "api_key": "key",
            "anthropic_base_url": f"{world.providers_url}/anthropic",
            "anthropic_api_key": "key",
        }
    )


@pytest.fixture
async def search_handler(search_settings: SearchSettings) -> AsyncIterator[SearchHandler]:
    async with open_search_handler(search_settings) as opened:
        yield opened


@pytest.fixture
async def llm_handler(llm_settings: LlmSettings) -> AsyncIterator[LlmHandler]:
    async with open_llm_handler(llm_settings) as opened:
        yield opened
