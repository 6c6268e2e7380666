"""What the broker confirmed and lost is published again, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import JobKind, Lane
from forebay.testing.broker import FakePublisher
from reconciler.outbox import Outbox
from reconciler.refiller import Refiller, RefillRules

from .conftest import World, all_turns


async def test_wiped_queues_are_refilled(world: World) -> None:
    for n in range(3):
        await world.submit(f"job_{n}")
    world.advance(3)
    await world.relay().turn()
    world.broker.purge()
    world.advance(39)
    await world.refiller().turn()
    assert world.waiting() == 0
    world.advance(2)
    await world.refiller().turn()
    assert world.waiting() == 3


async def test_a_backlog_that_is_there_is_not_published_again(world: World) -> None:
    for n in range(3):
        await world.submit(f"job_{n}")
    world.advance(3)
    await world.relay().turn()
    world.advance(3600)
    await world.refiller().turn()
    assert world.waiting() == 3


async def test_a_long_wiped_queue_is_refilled_at_once_and_not_a_batch_each_time_it_is_empty(
    world: World,
) -> None:
    await world.fill(347)
    world.advance(60)
    world.broker.purge()
    assert await all_turns(world.refiller()) < 10
    assert world.waiting() == 347


async def test_no_route_waits_until_the_refill_of_another_is_done(world: World) -> None:
    await world.fill(250)
    await world.fill(250, "crawl", kind=JobKind.CRAWL)
    world.advance(60)
    world.broker.purge()
    assert await world.refiller().turn()
    assert (world.waiting(), world.broker.waiting(JobKind.CRAWL, Lane.DEFAULT)) == (100, 100)


async def test_what_was_too_young_at_the_wipe_is_refilled_into_a_queue_that_has_something_again(
    world: World,
) -> None:
    await world.fill(15, "old")
    world.advance(30)
    await world.fill(15, "young")
    world.broker.purge()
    world.advance(10)
    refiller = world.refiller()
    await all_turns(refiller)
    assert world.waiting() == 15
    world.advance(20)
    await world.fill(15, "after")
    assert world.waiting() == 30
    world.advance(20)
    await all_turns(refiller)
    assert world.waiting() == 45


async def test_what_was_published_after_the_queue_was_empty_is_not_published_again(
    world: World,
) -> None:
    refiller = world.refiller()
    await refiller.turn()
    await world.fill(25)
    for _ in range(60):
        world.advance(10)
        assert not await refiller.turn()
    assert world.waiting() == 25


async def test_a_refill_that_takes_its_time_takes_nothing_that_came_after_the_queue_was_empty(
    world: World,
) -> None:
    class Slow(FakePublisher):
        async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
            world.advance(5)
            return await super().publish(messages)

    slow = Slow(world.broker)
    outbox = Outbox(world.store, slow, world.metrics, world.logger)
    refiller = Refiller(world.store, slow, outbox, world.logger, RefillRules(40, 10), world.clock)
    await world.fill(60, "lost")
    world.advance(1)
    world.broker.purge()
    assert not await refiller.turn()
    world.advance(3)
    await world.fill(30, "after")
    world.advance(36)
    await all_turns(refiller)
    assert world.waiting() == 60 + 30


async def test_what_was_refilled_is_not_lost_again_for_the_same_reason(world: World) -> None:
    await world.fill(25)
    world.advance(60)
    world.broker.purge()
    refiller = world.refiller()
    for _ in range(60):
        await all_turns(refiller)
        world.advance(10)
    assert world.waiting() == 25


async def test_a_refill_that_the_broker_does_not_take_is_tried_at_the_next_turn(
    world: World,
) -> None:
    await world.fill(25)
    world.advance(60)
    world.broker.purge()
    world.broker.max_length = 12
    refiller = world.refiller()
    assert not await refiller.turn()
    assert world.waiting() == 12
    world.broker.max_length = None
    await all_turns(refiller)
    assert world.waiting() == 25


async def test_a_queue_that_was_wiped_under_load_is_refilled_although_it_is_not_empty(
    world: World,
) -> None:
    await world.fill(80, "lost")
    world.advance(30)
    world.broker.purge()
    await world.fill(15, "after")
    world.advance(20)
    refiller = world.refiller()
    await all_turns(refiller)
    # All but a batch, which may be in the hands of workers: the oldest are there again.
    assert world.waiting() == 15 + 80 - 10
    world.advance(3600)
    assert not await refiller.turn()
    assert world.waiting() == 15 + 80 - 10
    world.broker.purge()
    await all_turns(refiller)
    assert world.waiting() == 95


async def test_jobs_that_nobody_published_yet_make_no_queue_too_short(world: World) -> None:
    await world.fill(40, "healthy")
    world.advance(60)
    for n in range(100):
        await world.submit(f"unpublished_{n}")
    assert not await world.refiller().turn()
    assert world.waiting() == 40


async def test_a_broker_that_cannot_be_asked_is_not_taken_for_an_empty_one(world: World) -> None:
    await world.fill(40)
    world.advance(60)
    world.broker.stop()
    refiller = world.refiller()
    assert not await refiller.turn()
    world.broker.start()
    world.advance(60)
    assert not await refiller.turn()
    assert world.waiting() == 40


async def test_a_message_dropped_after_too_many_deliveries_is_published_again(
    world: World,
) -> None:
    await world.submit()
    world.advance(3)
    await world.relay().turn()
    for _ in range(world.broker.delivery_limit + 1):
        consumer = world.broker.consumer(JobKind.SEARCH)
        held = asyncio.Event()
        consuming = asyncio.create_task(consumer.run(lambda _, held=held: held.set()))
        await held.wait()
        await consumer.close()
        await consuming
    assert (world.waiting(), len(world.broker.dead(JobKind.SEARCH))) == (0, 1)
    world.advance(60)
    await world.refiller().turn()
    assert world.waiting() == 1
