"""A link that falls silent: nothing arrives, nothing breaks, and nobody says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from forebay.broker.consumer import RabbitConsumer
from forebay.broker.publisher import RabbitPublisher
from forebay.jobs import JobKind, Lane
from forebay.local.ports import HOST, Ports
from forebay.settings import BrokerSettings
from tests.broker_world import FAST, FAST_SENDER, RabbitWorld, consuming, eventually, message
from tests.chaos.proxy import Fault, FaultProxy

WITHOUT_HEARTBEATS_S = 40.0
"""With them, at 15 s, it is noticed after 48 s."""


@pytest.fixture
async def link(world: RabbitWorld) -> AsyncIterator[FaultProxy]:
    parts = urlsplit(world.settings().amqp_url.get_secret_value())
    async with FaultProxy(Ports(lambda _: None).take("a link")) as proxy:
        proxy.lead_to(HOST, parts.port or 5672)
        yield proxy


def over(link: FaultProxy, world: RabbitWorld) -> BrokerSettings:
    parts = urlsplit(world.settings().amqp_url.get_secret_value())
    login = parts.netloc.rpartition("@")[0]
    return BrokerSettings(
        amqp_url=SecretStr(f"amqp://{login}@{HOST}:{link.port}{parts.path}"), amqp_heartbeat_s=15
    )


def consumer_over(link: FaultProxy, world: RabbitWorld, prefetch: int) -> RabbitConsumer:
    logger = world.log.logger
    consumer = RabbitConsumer(
        over(link, world), JobKind.SEARCH, prefetch, "search_worker", world.metrics, logger
    )
    consumer.timing = FAST
    return consumer


async def silenced(link: FaultProxy) -> None:
    """What passes its connections now is lost, and they are silent from then on."""
    await link.inject(Fault.BLACK_HOLE)
    await eventually(lambda: link.harmed > 0)
    await link.clear()


async def test_a_consumer_on_a_silent_link_is_replaced_before_the_heartbeat_fails(
    world: RabbitWorld, link: FaultProxy
):
    consumer = consumer_over(link, world, prefetch=20)
    publisher = await world.publisher()
    async with consuming(consumer) as received:
        before = link.counts["connections"]
        await silenced(link)
        async with asyncio.timeout(WITHOUT_HEARTBEATS_S):
            await eventually(
                lambda: link.counts["connections"] > before and consumer.lacking is None,
                WITHOUT_HEARTBEATS_S,
            )
        # The broker has not noticed and gives the old consumer its share.
        await publisher.publish([message(n) for n in range(4)])
        await (await received.next()).ack()


async def test_a_link_slower_than_our_patience_leaves_one_consumer_of_each_lane(
    world: RabbitWorld, link: FaultProxy
):
    consumer = consumer_over(link, world, prefetch=4)
    publisher = await world.publisher()

    async def consumers(count: int) -> bool:
        listed = await world.control("list_consumers", "-q", "--vhost", world.vhost, "queue_name")
        queues = [line for line in listed.split() if line.startswith("forebay.")]
        return len(queues) == len(set(queues)) == count

    async with consuming(consumer) as received:
        await publisher.publish([message(n) for n in range(8)])
        await received.take(4)
        connections = link.counts["connections"]
        await link.inject(Fault.HELD)
        # Every lane's look was given up: each was told so by its own keeper.
        await eventually(lambda: str(world.log).count("consumer ended") == len(Lane))
        await link.clear()
        await eventually(lambda: consumer.lacking is None)
        await eventually(lambda: consumers(len(Lane)))
        assert link.counts["connections"] == connections, "the link was waited for, not left"
        await consumer.stop()
        assert await consumers(0)


async def test_a_publisher_on_a_silent_link_is_replaced_before_the_heartbeat_fails(
    world: RabbitWorld, link: FaultProxy
):
    settings = over(link, world)
    async with RabbitPublisher(
        settings, "test", world.metrics, world.log.logger, FAST_SENDER
    ) as publisher:
        await publisher.wait_connected()
        sending = asyncio.create_task(publisher.publish([message(1)]))
        await silenced(link)
        assert list(await sending) != [None]

        async def published() -> bool:
            return list(await publisher.publish([message(2)])) == [None]

        await eventually(published, WITHOUT_HEARTBEATS_S)
