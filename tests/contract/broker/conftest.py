"""The two brokers of the contract suite: the shipped fake and a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from forebay.broker.envelope import Envelope
from forebay.jobs import JobKind, Lane
from forebay.local.servers import Servers
from forebay.testing.broker import FakeBroker, FakeConsumer, FakePublisher
from tests.broker_world import RabbitWorld, open_world


class FakeWorld:
    """The fake behind the same handles as `RabbitWorld`."""

    name = "fake"

    def __init__(self) -> None:
        self.broker = FakeBroker()

    async def publisher(self) -> FakePublisher:
        return self.broker.publisher()

    async def consumer(self, kind: JobKind = JobKind.SEARCH, prefetch: int = 20) -> FakeConsumer:
        return self.broker.consumer(kind, prefetch)

    async def put(self, kind: JobKind, lane: Lane, envelope: Envelope) -> None:
        self.broker.put(kind, lane, envelope)

    async def waiting(self, kind: JobKind, lane: Lane) -> int:
        await asyncio.sleep(0)
        return self.broker.waiting(kind, lane)

    async def dead(self, kind: JobKind) -> list[Envelope]:
        return list(self.broker.dead(kind))

    async def unbind(self, kind: JobKind, lane: Lane) -> None:
        self.broker.unbound.add((kind, lane))

    async def refuse_dead_letters(self, *, refuse: bool = True) -> None:
        self.broker.dead_letters_refused = refuse

    async def limit(self, *, max_length: int | None = None, delivery_limit: int = 20) -> None:
        self.broker.max_length = max_length
        self.broker.delivery_limit = delivery_limit

    async def delete_queue(self, kind: JobKind, lane: Lane) -> None:
        self.broker.missing.add((kind, lane))

    async def declare(self) -> None:
        self.broker.declare()

    async def cut(self) -> None:
        self.broker.cut()

    async def block(self) -> None:
        self.broker.blocked = True

    async def unblock(self) -> None:
        self.broker.blocked = False


World = FakeWorld | RabbitWorld


@pytest.fixture(scope="session")
async def rabbit_world(servers: Servers) -> AsyncIterator[RabbitWorld]:
    async with open_world(servers) as world:
        yield world


@pytest.fixture
async def clean_rabbit_world(rabbit_world: RabbitWorld) -> AsyncIterator[RabbitWorld]:
    yield rabbit_world
    await rabbit_world.reset()


@pytest.fixture
def fake_world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture(params=["fake_world", "clean_rabbit_world"], ids=["fake", "rabbitmq"])
def world(request: pytest.FixtureRequest) -> World:
    # Not async: the plugin can make the async fixture only outside of a running loop.
    chosen: World = request.getfixturevalue(request.param)
    return chosen
