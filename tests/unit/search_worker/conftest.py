from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from search_worker.handler import SearchHandler, open_handler
from search_worker.settings import SearchSettings
from tests.local_api import LocalApi
from tests.loopback import only_loopback


@pytest.fixture(autouse=True)
def _no_way_out() -> Iterator[None]:
    with only_loopback():
        yield


@pytest.fixture
async def api() -> AsyncIterator[LocalApi]:
    async with LocalApi() as running:
        yield running


@pytest.fixture
def settings(api: LocalApi) -> SearchSettings:
    return SearchSettings.model_validate(
        {
            "searxng_url": f"{api.url}/searxng/",
            "brave_url": f"{api.url}/brave",
            "brave_api_key": "brave-key",
            "tavily_url": f"{api.url}/tavily",
            "tavily_api_key": "tavily-key",
            "serper_url": f"{api.url}/serper",
            "serper_api_key": "serper-key",
            "max_response_bytes": 65536,
        }
    )


@pytest.fixture
async def handler(settings: SearchSettings) -> AsyncIterator[SearchHandler]:
    async with open_handler(settings) as opened:
        yield opened
