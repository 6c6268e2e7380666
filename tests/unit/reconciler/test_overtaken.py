"""The refiller finds what was lost from a queue that is never empty: others have overtaken it."""

from __future__ import annotations

import pytest

from forebay.jobs import Event, JobKind, JobState, Lane
from forebay.store import Claimed, JobRef
from tests.contract.store.jobs import an_ending

from .conftest import World, all_turns

ROUTE = (JobKind.SEARCH, Lane.DEFAULT)
LOST = {"reason": "lost"}


async def claim(world: World, job_id: str) -> None:
    job = await world.job(job_id)
    await world.store.claim(JobRef.of(job), "worker", 3600)
    assert (await world.job(job_id)).state is JobState.RUNNING


async def test_what_younger_jobs_overtook_is_published_again(world: World) -> None:
    await world.fill(7, "lost")
    world.broker.purge()
    world.advance(10)
    await world.fill(5, "after")
    world.advance(30)
    await all_turns(world.refiller())
    assert world.waiting() == 5, "nobody was overtaken yet"
    await claim(world, "after_0")
    await all_turns(world.refiller())
    assert world.waiting() == 12
    world.advance(30)
    await all_turns(world.refiller())
    assert world.waiting() == 12, "what is published again is not overtaken any more"


async def test_what_was_published_about_the_same_time_was_not_overtaken(world: World) -> None:
    await world.fill(5, "before")
    await world.fill(5, "after")
    await claim(world, "after_4")
    world.advance(60)
    await all_turns(world.refiller())
    assert world.waiting() == 10


async def test_a_job_that_was_published_again_overtakes_nobody(world: World) -> None:
    await world.fill(6, "waits")
    world.advance(20)
    # Its second message is at the queue's end, and it runs by its first one.
    job = await world.job("waits_0")
    await world.store.mark_published([JobRef.of(job)])
    await claim(world, "waits_0")
    world.advance(60)
    await all_turns(world.refiller())
    assert world.waiting() == 6


async def test_jobs_that_the_relay_published_late_count_as_overtakers_too(world: World) -> None:
    await world.fill(7, "lost")
    world.broker.purge()
    for n in range(5):
        await world.submit(f"after_{n}")
    world.advance(30)
    await world.relay().turn()
    world.advance(12)
    await all_turns(world.refiller())
    assert world.waiting() == 5, "nobody was overtaken yet"
    await world.submit("last")
    world.advance(12)
    await world.relay().turn()
    await claim(world, "last")
    await all_turns(world.refiller())
    assert world.waiting() == 6 + 7


async def test_a_job_that_runs_again_overtakes_nobody(world: World) -> None:
    await world.fill(6, "waits")
    first = await world.store.claim(JobRef.of(await world.job("waits_0")), "worker", 3600)
    assert isinstance(first, Claimed)
    assert first.job.lease is not None
    snooze = an_ending(first.job, Event.SNOOZED, uncount=True)
    await world.store.finish("waits_0", first.job.lease.token, snooze)
    world.advance(20)
    # Its second message is at the queue's end; it runs by another one of its first stay.
    await world.relay().turn()
    assert world.waiting() == 7
    await claim(world, "waits_0")
    world.advance(60)
    await all_turns(world.refiller())
    assert world.waiting() == 7


@pytest.mark.parametrize("published_after_s", [1, 6, 20])
async def test_what_is_lost_under_an_overload_is_found_however_late_jobs_are_published(
    world: World, published_after_s: int
) -> None:
    """Ten jobs a second come and nine are worked off; the tail of the queue is lost once."""
    # Too few for the sign of a short queue, which allows for a batch.
    refiller, queue = world.refiller(batch=500), world.broker._queues[ROUTE]
    lost: set[str] = set()
    for second in range(240):
        for n in range(10):
            await world.submit(f"job_{second}_{n}")
        await publish(world, second - published_after_s)
        if second == 80:
            lost = {queue.pop().envelope.correlation_id for _ in range(100)}
        if second > 40:
            for _ in range(9):
                await claim(world, world.broker.take(*ROUTE).envelope.correlation_id)
            assert queue, "it is never empty"
        if second > 40 and second % 10 == 0:
            await all_turns(refiller)
        world.advance(1)
    again = {stored.envelope.correlation_id for stored in queue}
    ran = {job_id for job_id in lost if (await world.job(job_id)).state is JobState.RUNNING}
    assert len(lost) == 100
    assert lost <= again | ran
    assert world.metrics.registry.get_sample_value("forebay_relayed_total", LOST) == 100


async def publish(world: World, second: int) -> None:
    """What was submitted in that second, as somebody does who did not get to it before."""
    if second >= 0:
        jobs = [await world.job(f"job_{second}_{n}") for n in range(10)]
        await world.outbox().publish("unpublished", [JobRef.of(job) for job in jobs])


async def test_a_backlog_that_is_worked_off_in_order_is_left_alone(world: World) -> None:
    for n in range(30):
        await world.fill(1, f"waits_{n}")
        world.advance(8)
    for n in range(25):
        await claim(world, f"waits_{n}_0")
        world.advance(3)
        await all_turns(world.refiller())
        assert world.waiting() == 30
