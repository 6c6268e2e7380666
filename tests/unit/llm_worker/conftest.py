from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from llm_worker.handler import LlmHandler, open_handler
from llm_worker.settings import LlmSettings
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
def settings(api: LocalApi) -> LlmSettings:
    return LlmSettings.model_validate(
        {
            "base_url": f"{api.url}/v1",
            "api_key": "openai-key",
            "anthropic_base_url": api.url,
            "anthropic_api_key": "anthropic-key",
            "max_response_bytes": 65536,
        }
    )


@pytest.fixture
async def handler(settings: LlmSettings) -> AsyncIterator[LlmHandler]:
    async with open_handler(settings) as opened:
        yield opened
