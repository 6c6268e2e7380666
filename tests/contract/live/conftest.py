"""The two wires of the suite: the shipped fake and a real broker, as its users may use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from forebay.broker.live import RabbitLive
from forebay.broker.topology import ASKS_EXCHANGE, LIVE_EXCHANGE
from forebay.local.servers import Servers
from forebay.progress import Hear, Voice
from forebay.telemetry.metrics import Metrics
from forebay.testing.live import FakeLive
from tests.broker_world import Log, RabbitWorld, open_world


class FakeWire:
    """In memory."""

    def __init__(self) -> None:
        self._live = FakeLive()

    @asynccontextmanager
    async def ingress(self, hear: Hear) -> AsyncIterator[Voice]:
        voice = self._live.ingress()
        async with voice.heard_by(hear):
            yield voice

    @asynccontextmanager
    async def worker(self, hear: Hear) -> AsyncIterator[Voice]:
        voice = self._live.worker()
        async with voice.heard_by(hear):
            yield voice


class RabbitWire:
    """On a broker, each process under its own user, with its rights and no more."""

    def __init__(self, world: RabbitWorld) -> None:
        self._world = world

    @asynccontextmanager
    async def _process(self, role: str, hears: str, hear: Hear) -> AsyncIterator[Voice]:
        live = RabbitLive(self._world.settings(role), role, hears, Metrics(), Log().logger)
        async with live.heard_by(hear):
            await live.wait_listening()
            yield live

    def ingress(self, hear: Hear) -> AbstractAsyncContextManager[Voice]:
        return self._process("ingress", LIVE_EXCHANGE, hear)

    def worker(self, hear: Hear) -> AbstractAsyncContextManager[Voice]:
        return self._process("worker", ASKS_EXCHANGE, hear)


@pytest.fixture(params=["fake", "rabbitmq"])
async def wire(
    request: pytest.FixtureRequest, servers: Servers
) -> AsyncIterator[FakeWire | RabbitWire]:
    if request.param == "fake":
        yield FakeWire()
    else:
        async with open_world(servers) as world:
            yield RabbitWire(world)
