"""A node of this directory's own: its tests kill, freeze and restart it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from forebay.local.ports import Ports
from forebay.local.rabbitmq import RabbitMQNode
from tests.broker_world import RabbitWorld, open_world


@pytest.fixture(scope="session")
async def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitMQNode]:
    directory = tmp_path_factory.mktemp("own-rabbitmq")
    async with RabbitMQNode(directory, Ports(lambda _: None)) as node:
        yield node


@pytest.fixture(scope="session")
async def disturbed_world(own_rabbitmq: RabbitMQNode) -> AsyncIterator[RabbitWorld]:
    async with open_world(own_rabbitmq) as world:
        yield world


@pytest.fixture
async def world(disturbed_world: RabbitWorld) -> AsyncIterator[RabbitWorld]:
    yield disturbed_world
    await disturbed_world.reset()
