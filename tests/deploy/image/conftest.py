"""The image under test and its containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.deploy.image.containers import IMAGE, Boxes, daemon, need_image


@pytest.fixture(scope="module")
def docker_client() -> Iterator[Any]:
    with daemon() as client:
        yield client


@pytest.fixture(scope="module")
def image(docker_client: Any) -> Any:
    return need_image(docker_client, IMAGE)


@pytest.fixture
async def boxes(docker_client: Any, image: Any) -> AsyncIterator[Boxes]:  # noqa: ARG001 - needed
    opened = Boxes(docker_client)
    yield opened
    await opened.clear()
