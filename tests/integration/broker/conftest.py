"""A node of this directory's own: its tests kill, freeze and restart it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from forebay.local.rabbitmq import RabbitMQNode
from tests.broker_world import RabbitWorld, open_world


@pytest.fixture(scope="session")
async def disturbed_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitWorld]:
    directory = tmp_path_factory.mktemp("rabbitmq-disturbed")
    async with RabbitMQNode(directory) as node, open_world(node, directory) as world:
        yield world


@pytest.fixture
async def world(disturbed_world: RabbitWorld) -> AsyncIterator[RabbitWorld]:
    yield disturbed_world
    await disturbed_world.reset()
