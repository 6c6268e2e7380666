"""What every broker does, the fake and the real one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.broker import (
    DeadLetter,
    DeadReason,
    Delivery,
    JobMessage,
    Malformed,
    NotPublished,
    Publisher,
)
from forebay.broker.envelope import Envelope, seal
from forebay.jobs import JobKind, Lane
from tests.broker_world import consuming, eventually, message

if TYPE_CHECKING:
    from tests.contract.broker.conftest import World

SEARCH = (JobKind.SEARCH, Lane.DEFAULT)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [one.message.job_id for one in deliveries]


async def test_a_message_arrives_with_everything_it_says(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    sent = JobMessage("job_1", 3, JobKind.SEARCH, Lane.BULK, attempt=2, traceparent="00-ab-cd-01")
    assert await publisher.publish([sent]) == [None]
    async with consuming(consumer) as received:
        delivery = await received.next()
        assert delivery.message == sent
        assert delivery.lane is Lane.BULK
        assert delivery.redelivered is False
        await delivery.ack()


async def test_what_waits_in_a_queue_can_be_asked(world: World):
    publisher = await world.publisher()
    assert await publisher.waiting(*SEARCH) == 0
    await publisher.publish([message(1), message(2)])

    async def two_wait() -> bool:
        return await publisher.waiting(*SEARCH) == 2

    await eventually(two_wait)
    assert await publisher.publish([message(3)]) == [None]


async def test_publishing_nothing_is_nothing(world: World):
    assert list(await (await world.publisher()).publish([])) == []


async def test_a_lane_is_first_in_first_out(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    assert await publisher.publish([message(n) for n in range(10)]) == [None] * 10
    async with consuming(consumer) as received:
        assert ids(await received.take(10)) == [message(n).job_id for n in range(10)]


async def test_a_consumer_gets_its_own_kind_only(world: World):
    publisher, consumer = await world.publisher(), await world.consumer(JobKind.LLM)
    await publisher.publish([message(1), message(2, JobKind.LLM)])
    async with consuming(consumer) as received:
        assert (await received.next()).message.job_id == message(2).job_id
    assert await world.waiting(*SEARCH) == 1


async def test_no_more_than_the_prefetch_is_held_per_lane(world: World):
    publisher, consumer = await world.publisher(), await world.consumer(prefetch=2)
    await publisher.publish([message(n) for n in range(3)])
    await publisher.publish([message(9, lane=Lane.BULK)])
    async with consuming(consumer) as received:
        first = await received.take(3)
        assert sorted(one.lane for one in first) == [Lane.BULK, Lane.DEFAULT, Lane.DEFAULT]
        assert await world.waiting(*SEARCH) == 1
        await next(one for one in first if one.lane is Lane.DEFAULT).ack()
        assert (await received.next()).message.job_id == message(2).job_id


async def test_what_is_acked_is_not_delivered_again(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1), message(2)])
    async with consuming(consumer) as received:
        first, second = await received.take(2)
        await first.ack()
        await second.give_back()
        assert (await received.next()).message.job_id == message(2).job_id
    assert await world.waiting(*SEARCH) == 1


async def test_what_is_given_back_is_delivered_again_and_says_so(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        await (await received.next()).give_back()
        again = await received.next()
        assert again.message == message(1)
        assert again.redelivered is True
        await again.ack()


async def test_closing_gives_back_what_was_not_settled_in_its_order(world: World):
    publisher, first, second = (
        await world.publisher(), await world.consumer(), await world.consumer()
    )  # fmt: skip
    await publisher.publish([message(n) for n in range(3)])
    async with consuming(first) as received:
        await received.take(3)
    async with consuming(second) as received:
        again = await received.take(3)
        assert sorted(ids(again)) == [message(n).job_id for n in range(3)]
        assert all(one.redelivered for one in again)


async def test_after_stop_nothing_is_received_and_what_is_held_can_be_settled(world: World):
    publisher, consumer = await world.publisher(), await world.consumer(prefetch=1)
    await publisher.publish([message(1), message(2)])
    async with consuming(consumer) as received:
        held = await received.next()
        await consumer.stop()
        assert consumer.lacking is not None
        await held.ack()
        await eventually(lambda: _is_waiting(world, 1))
    assert received.count == 0
    assert await world.waiting(*SEARCH) == 1


async def _is_waiting(world: World, n: int) -> bool:
    return await world.waiting(*SEARCH) == n


async def test_settling_twice_does_nothing_more(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1), message(2)])
    async with consuming(consumer) as received:
        first, second = await received.take(2)
        await first.ack()
        await first.ack()
        await first.give_back()
        await first.dead_letter(DeadReason.UNKNOWN_JOB, "no")
        # Its channel is still good: the other one settles over it.
        await second.give_back()
        assert (await received.next()).message.job_id == message(2).job_id
    assert await world.dead(JobKind.SEARCH) == []


async def test_a_dead_letter_is_in_the_dead_queue_with_its_reason(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        await (await received.next()).dead_letter(DeadReason.ATTEMPTS_EXHAUSTED, "5 of 5")
    (letter,) = await world.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-reason"] == "attempts_exhausted"
    assert letter.headers["x-forebay-detail"] == "5 of 5"
    assert letter.routing_key == "search.default"
    assert letter.correlation_id == message(1).job_id
    assert await world.waiting(*SEARCH) == 0


async def test_a_letter_can_be_buried_without_a_delivery_and_reads_the_same(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    sent = message(1, lane=Lane.BULK, attempt=5, traceparent="00-ab-cd-01")
    letter = DeadLetter(sent, DeadReason.ATTEMPTS_EXHAUSTED, "5 of 5")
    assert list(await publisher.bury([letter])) == [None]
    assert list(await publisher.bury([])) == []
    await publisher.publish([sent])
    async with consuming(consumer) as received:
        await (await received.next()).dead_letter(letter.reason, letter.detail)
    buried, delivered = await world.dead(JobKind.SEARCH)
    assert buried.headers["x-forebay-reason"] == "attempts_exhausted"
    for name in ("body", "routing_key", "type", "correlation_id", "content_type"):
        assert getattr(buried, name) == getattr(delivered, name)
    for name in ("x-forebay-detail", "x-forebay-routing-key", "x-attempt", "traceparent"):
        assert buried.headers[name] == delivered.headers[name]


async def test_a_letter_that_cannot_be_buried_is_answered_with_why(world: World):
    publisher = await world.publisher()
    letter = DeadLetter(message(1), DeadReason.ATTEMPTS_EXHAUSTED, "5 of 5")
    await world.refuse_dead_letters()
    assert list(await publisher.bury([letter])) == [NotPublished.RETURNED]
    await world.refuse_dead_letters(refuse=False)
    assert await world.dead(JobKind.SEARCH) == []


async def test_a_dead_letter_that_is_not_confirmed_goes_back_to_the_queue(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await world.refuse_dead_letters()
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        await (await received.next()).dead_letter(DeadReason.UNKNOWN_JOB, "gone")
        again = await received.next()
        assert again.redelivered is True
        await world.refuse_dead_letters(refuse=False)
        await again.dead_letter(DeadReason.UNKNOWN_JOB, "gone")
    assert len(await world.dead(JobKind.SEARCH)) == 1


@pytest.mark.parametrize(
    "foreign",
    [
        Envelope(b"\xff\x00", "search.default", type="forebay.job.v1"),
        Envelope(b'{"job_id": "a", "generation": 1}', "search.default", type="forebay.job.v9"),
        Envelope(b'{"job_id": 7, "generation": 1}', "search.default", type="forebay.job.v1"),
        Envelope(b'{"job_id": "a", "generation": 1}', "elsewhere", type="forebay.job.v1"),
    ],
    ids=["undecodable", "unknown version", "wrong type", "unknown key"],
)
async def test_a_foreign_message_is_handed_over_as_malformed_and_can_be_buried(
    world: World, foreign: Envelope
):
    consumer = await world.consumer()
    await world.put(*SEARCH, foreign)
    async with consuming(consumer) as received:
        delivery = await received.next()
        assert isinstance(delivery.message, Malformed)
        assert delivery.lane is Lane.DEFAULT
        await delivery.dead_letter(DeadReason.MALFORMED, delivery.message.reason)
    (letter,) = await world.dead(JobKind.SEARCH)
    assert letter.body == foreign.body
    assert letter.headers["x-forebay-reason"] == "malformed"
    assert letter.headers["x-forebay-routing-key"] == foreign.routing_key


async def test_a_message_no_queue_is_bound_for_is_returned_and_the_others_are_not(world: World):
    publisher = await world.publisher()
    await world.unbind(JobKind.SEARCH, Lane.BULK)
    outcomes = await publisher.publish(
        [message(1), message(2, lane=Lane.BULK), message(3, JobKind.LLM)]
    )
    assert list(outcomes) == [None, NotPublished.RETURNED, None]
    assert await world.waiting(*SEARCH) == 1


async def test_a_full_queue_refuses(world: World):
    publisher = await world.publisher()
    await world.limit(max_length=2)
    outcomes = [(await publisher.publish([message(n)]))[0] for n in range(8)]
    # RabbitMQ notices a little late that a quorum queue is full, but then it refuses.
    assert outcomes[:2] == [None, None]
    assert outcomes[-1] is NotPublished.NACKED
    assert await world.waiting(*SEARCH) == outcomes.count(None)


async def test_an_alarm_blocks_publishers_while_settles_go_on(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1), message(2)])
    async with consuming(consumer) as received:
        first, second = await received.take(2)
        await world.block()
        try:
            # Told as soon as it is noticed, well within the publish timeout of 5 s.
            async with asyncio.timeout(3):
                assert list(await publisher.publish([message(3)])) == [NotPublished.BLOCKED]
            assert list(await publisher.publish([message(4)])) == [NotPublished.BLOCKED]
            await first.ack()
            await second.give_back()
            again = await received.next()
            assert again.message == message(2)
            await again.ack()
        finally:
            await world.unblock()
        await eventually(lambda: _is_published(publisher))


async def _is_published(publisher: Publisher) -> bool:
    await asyncio.sleep(0)
    return list(await publisher.publish([message(5)])) == [None]


async def test_a_cut_connection_delivers_again_and_the_old_delivery_settles_into_the_void(
    world: World,
):
    publisher, consumer = await world.publisher(), await world.consumer()
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        old = await received.next()
        await world.cut()
        again = await received.next()
        assert again.message == old.message == message(1)
        assert again.redelivered is True
        await old.ack()
        await again.give_back()
        # The old ack touched nothing: it is still there.
        await (await received.next()).ack()
    assert await world.waiting(*SEARCH) == 0


async def test_a_message_delivered_too_often_goes_to_the_dead_queue_by_itself(world: World):
    publisher, consumer = await world.publisher(), await world.consumer()
    await world.limit(delivery_limit=2)
    await publisher.publish([message(1)])
    async with consuming(consumer) as received:
        for _ in range(3):
            await (await received.next()).give_back()
        await eventually(lambda: _is_dead(world))
    assert received.count == 0


async def _is_dead(world: World) -> bool:
    await asyncio.sleep(0)
    return len(await world.dead(JobKind.SEARCH)) == 1


async def test_a_missing_queue_is_waited_for_and_the_other_lanes_are_consumed(world: World):
    await world.delete_queue(JobKind.SEARCH, Lane.BULK)
    publisher, consumer = await world.publisher(), await world.consumer()
    received: asyncio.Queue[Delivery] = asyncio.Queue()
    running = asyncio.create_task(consumer.run(received.put_nowait))
    try:
        await eventually(lambda: "forebay.search.bulk" in (consumer.lacking or ""))
        assert "run `forebay topology apply`" in (consumer.lacking or "")
        await publisher.publish([message(1)])
        async with asyncio.timeout(20):
            await (await received.get()).ack()
        assert consumer.lacking is not None
        await world.declare()
        await eventually(lambda: consumer.lacking is None)
        assert list(await publisher.publish([message(2, lane=Lane.BULK)])) == [None]
        async with asyncio.timeout(20):
            delivery = await received.get()
        assert delivery.lane is Lane.BULK
        await delivery.ack()
    finally:
        await consumer.stop()
        await consumer.close()
        await running


async def test_a_stopped_consumer_does_not_run_again(world: World):
    consumer = await world.consumer()
    await consumer.stop()
    async with asyncio.timeout(5):
        await consumer.run(lambda _: None)
    await consumer.close()


def test_the_contract_is_told_with_a_sealed_message():
    envelope = seal(message(1), "m1")
    assert (envelope.routing_key, envelope.message_id) == ("search.default", "m1")
