"""The guards of the publisher and the consumer, against a real broker that misbehaves."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import aio_pika
import pytest

from forebay import __version__
from forebay.broker import NotPublished
from forebay.broker.publisher import RabbitPublisher
from forebay.broker.topology import queue_name
from forebay.errors import BrokerUnavailable
from forebay.jobs import JobKind, Lane
from tests.broker_world import (
    FAST,
    FAST_SENDER,
    RabbitWorld,
    Received,
    consuming,
    eventually,
    message,
)

SEARCH = (JobKind.SEARCH, Lane.DEFAULT)


async def test_a_broker_killed_under_load_loses_nothing_confirmed(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer()
    confirmed: set[str] = set()
    seen: set[str] = set()
    refused = 0

    async def publish_until(done: asyncio.Event) -> None:
        nonlocal refused
        n = 0
        while not done.is_set():
            batch = [message(n + i) for i in range(10)]
            n += 10
            outcomes = await publisher.publish(batch)
            confirmed.update(m.job_id for m, o in zip(batch, outcomes, strict=True) if o is None)
            refused += sum(o is not None for o in outcomes)
            await asyncio.sleep(0)

    async def ack_all(received: Received) -> None:
        while True:
            delivery = await received.next(within_s=50)
            seen.add(delivery.message.job_id)
            await delivery.ack()

    done = asyncio.Event()
    async with consuming(consumer) as received:
        publishing = asyncio.create_task(publish_until(done))
        acking = asyncio.create_task(ack_all(received))
        await eventually(lambda: len(seen) > 200)
        await world.kill()
        await eventually(lambda: refused > 0 and consumer.lacking is not None)
        before = len(seen)
        await world.node.start()
        await eventually(lambda: len(seen) > before + 200, within_s=40)
        done.set()
        await publishing
        await eventually(lambda: confirmed <= seen)
        acking.cancel()
        await eventually(lambda: consumer.lacking is None)
    assert refused > 0, "the fault must be seen to have happened"


async def test_a_publisher_starts_without_a_broker_and_finds_it_later(world: RabbitWorld):
    await world.node.stop()
    try:
        began = time.monotonic()
        publisher = RabbitPublisher(
            world.settings(), "test", world.metrics, world.log.logger, FAST_SENDER
        )
        async with publisher:
            assert list(await publisher.publish([message(1)])) == [NotPublished.UNAVAILABLE]
            assert time.monotonic() - began < 1, "nobody waits for a broker that is down"
            await eventually(lambda: "broker.lost" in world.log.events())
            password = world.settings().amqp_url.get_secret_value().split(":")[2].split("@")[0]
            assert password not in str(world.log)
            await world.node.start()
            async with asyncio.timeout(20):
                await publisher.wait_connected()
            assert list(await publisher.publish([message(1)])) == [None]
    finally:
        if world.node.pid is None:
            await world.node.start()


async def test_a_frozen_broker_is_a_timeout_and_the_channel_is_not_used_again(world: RabbitWorld):
    publisher = await world.publisher(publish_timeout_s=0.3)
    route = publisher._sender._route
    assert route is not None
    world.node.freeze()
    try:
        began = time.monotonic()
        outcomes = await publisher.publish([message(n) for n in range(50)])
        assert list(outcomes) == [NotPublished.TIMEOUT] * 50
        assert time.monotonic() - began < 1
    finally:
        world.node.thaw()
    await eventually(lambda: publisher.connected)
    assert publisher._sender._route is not route
    assert list(await publisher.publish([message(1)])) == [None]


async def test_a_canceled_publish_retires_its_channel_and_hurts_no_other(world: RabbitWorld):
    publisher = await world.publisher()
    route = publisher._sender._route
    other = asyncio.create_task(publisher.publish([message(n) for n in range(200)]))
    canceled = asyncio.create_task(publisher.publish([message(n) for n in range(200)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    canceled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    assert list(await other) == [None] * 200
    await eventually(lambda: publisher.connected)
    assert publisher._sender._route is not route
    assert list(await publisher.publish([message(1)])) == [None]


async def test_more_than_the_window_is_published_all_the_same(world: RabbitWorld):
    publisher = await world.publisher()
    publisher._sender._window = asyncio.Semaphore(7)
    both = await asyncio.gather(*(publisher.publish([message(1)] * 100) for _ in range(2)))
    assert [list(one) for one in both] == [[None] * 100] * 2
    assert publisher._sender._window._value == 7


async def test_a_missing_exchange_is_an_outcome_not_an_exception(world: RabbitWorld):
    publisher = await world.publisher()
    await world.management.delete(f"exchanges/{world.vhost}/forebay.jobs")
    assert list(await publisher.publish([message(1)])) == [NotPublished.RETURNED]
    await world.declare()
    await eventually(lambda: publisher.connected)
    assert list(await publisher.publish([message(1)])) == [None]


async def test_a_deleted_queue_ends_one_lane_until_it_is_back(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer()
    # The watchdog would find out too: it must not be asked here.
    consumer.timing = replace(FAST, look_every_s=600)
    async with consuming(consumer) as received:
        await world.delete_queue(*SEARCH)
        await eventually(lambda: consumer.lacking is not None)
        await publisher.publish([message(1, lane=Lane.BULK)])
        await (await received.next()).ack()
        await world.declare()
        await eventually(lambda: consumer.lacking is None)
        await publisher.publish([message(2)])
        assert (await received.next()).message == message(2)


async def test_a_consumer_canceled_behind_our_back_is_rebuilt(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer()
    async with consuming(consumer) as received:
        keeper = consumer._keepers[list(Lane).index(Lane.DEFAULT)]
        subscription = keeper._current
        channel = await subscription._channel.get_underlay_channel()
        await channel.basic_cancel(subscription.terms.tag, nowait=True)
        assert consumer.lacking is None, "nobody noticed"
        await publisher.publish([message(1)])
        assert (await received.next()).message == message(1)
    assert world.sample("forebay_consumer_rebuilds_total", kind="search") == 1
    assert "consumer.rebuilt" in world.log.events()


async def test_a_rebuilt_lane_can_still_settle_what_it_held(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        held = await received.next()
        keeper = consumer._keepers[list(Lane).index(Lane.DEFAULT)]
        subscription = keeper._current
        channel = await subscription._channel.get_underlay_channel()
        await channel.basic_cancel(subscription.terms.tag, nowait=True)
        await publisher.publish([message(2)])
        await (await received.next()).ack()
        await held.ack()
    assert world.sample("forebay_deliveries_settled_total", kind="search", how="ack") == 2
    assert await world.waiting(*SEARCH) == 0


async def test_a_consumer_deaf_after_two_rebuilds_gives_up(world: RabbitWorld):
    name = queue_name(*SEARCH)
    await world.delete_queue(*SEARCH)
    single = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    await world.management.put(
        f"queues/{world.vhost}/{name}", json={"durable": True, "arguments": single}
    )
    publisher, consumer = await world.publisher(), await world.consumer()
    # Somebody else is the only active consumer and takes one message: ours gets nothing.
    async with world.admin() as channel:
        await channel.set_qos(prefetch_count=1)
        held: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await (await channel.get_queue(name, ensure=False)).consume(held.put)
        await world.management.post(
            f"bindings/{world.vhost}/e/forebay.jobs/q/{name}",
            json={"routing_key": "search.default"},
        )
        assert list(await publisher.publish([message(1), message(2)])) == [None, None]
        await held.get()
        try:
            with pytest.raises(BrokerUnavailable, match="2 new consumers did not help"):
                async with asyncio.timeout(30):
                    await consumer.run(lambda _: None)
        finally:
            await consumer.close()
    assert world.sample("forebay_consumer_rebuilds_total", kind="search") == 2
    await world.delete_queue(*SEARCH)


async def test_a_lane_that_may_not_be_read_costs_the_others_nothing(world: RabbitWorld):
    await world.management.put(
        f"permissions/{world.vhost}/forebay-worker",
        json={
            "configure": "^$",
            "write": "^$",
            "read": r"^forebay\.search\.(default|interactive)$",
        },
    )
    publisher, consumer = await world.publisher(), await world.consumer(user="worker")
    received = Received()
    running = asyncio.create_task(consumer.run(received))
    try:
        await publisher.publish([message(1)])
        held = await received.next()
        await eventually(lambda: str(world.log).count("cannot consume forebay.search.bulk") > 3)
        assert consumer.lacking is not None
        # Still over the first connection.
        await held.ack()
        assert world.sample("forebay_deliveries_settled_total", kind="search", how="ack") == 1
    finally:
        await consumer.stop()
        await consumer.close()
        await running
    assert await world.waiting(*SEARCH) == 0


async def test_a_stop_in_a_stream_of_messages_hands_over_nothing_more(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer(prefetch=50)
    for n in range(5):
        await publisher.publish([message(n * 200 + i) for i in range(200)])
    async with consuming(consumer) as received:
        taken = await received.take(50)
        # The acks go out just before the cancel: the broker sends more in between.
        acks = [asyncio.create_task(delivery.ack()) for delivery in taken]
        await asyncio.gather(*acks, consumer.stop())
        assert received.count == 0, "received after the stop began"
        await eventually(lambda: _is_waiting(world, 950))
        assert await world.most_deliveries(*SEARCH) <= 1, "given back once, not to and fro"


async def _is_waiting(world: RabbitWorld, n: int) -> bool:
    return await world.waiting(*SEARCH) == n


async def test_a_settle_over_a_dead_connection_is_counted_and_forgotten(world: RabbitWorld):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(n) for n in range(3)])
    async with consuming(consumer) as received:
        held = await received.take(3)
        await world.kill()
        # At once, while the library may not have noticed yet, and after it has.
        await held[0].ack()
        await eventually(lambda: consumer.lacking is not None)
        await held[1].give_back()
        await held[2].ack()
        await world.node.start()
        again = await received.take(3)
        assert {one.message.job_id for one in again} == {message(n).job_id for n in range(3)}
    assert world.sample("forebay_deliveries_settled_total", kind="search", how="lost") >= 2


async def test_the_management_page_reads_like_a_sentence(world: RabbitWorld):
    await world.publisher()
    consumer = await world.consumer()
    host = socket.gethostname()

    async def names() -> set[str]:
        found = (await world.management.get(f"vhosts/{world.vhost}/connections")).json()
        return {one.get("client_properties", {}).get("connection_name") for one in found}

    async def tags() -> set[str]:
        found = (await world.management.get(f"consumers/{world.vhost}")).json()
        return {one["consumer_tag"] for one in found}

    async def named() -> bool:
        return {f"search_worker@{host} ({__version__})", f"test@{host} ({__version__})"} <= (
            await names()
        )

    async def tagged() -> bool:
        return {f"search_worker.{host}.{n}" for n in (1, 2, 3)} == await tags()

    async with consuming(consumer):
        await eventually(named)
        await eventually(tagged)
