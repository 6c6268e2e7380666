"""The refiller finds what was lost from a queue that is never empty: others have overtaken it."""

from __future__ import annotations

import pytest

from forebay.jobs import JobState
from forebay.store import JobRef

from .test_loops import World


@pytest.fixture
def world() -> World:
    return World()


async def claim(world: World, job_id: str) -> None:
    job = await world.job(job_id)
    await world.store.claim(JobRef.of(job), "worker", 3600)
    assert (await world.job(job_id)).state is JobState.RUNNING


async def refill(world: World) -> None:
    refiller = world.refiller()
    while await refiller.turn():
        pass


async def test_what_younger_jobs_overtook_is_published_again(world: World) -> None:
    await world.fill(7, "lost")
    world.broker.purge()
    world.advance(10)
    await world.fill(5, "after")
    world.advance(30)
    await refill(world)
    assert world.waiting() == 5, "nobody was overtaken yet"
    await claim(world, "after_0")
    await refill(world)
    assert world.waiting() == 12
    world.advance(30)
    await refill(world)
    assert world.waiting() == 12, "what is published again is not overtaken any more"


async def test_what_was_published_about_the_same_time_was_not_overtaken(world: World) -> None:
    await world.fill(5, "before")
    await world.fill(5, "after")
    await claim(world, "after_4")
    world.advance(60)
    await refill(world)
    assert world.waiting() == 10


async def test_a_job_that_was_published_again_overtakes_nobody(world: World) -> None:
    await world.fill(6, "waits")
    world.advance(20)
    # Its second message is at the queue's end, and it runs by its first one.
    job = await world.job("waits_0")
    await world.store.mark_published([JobRef.of(job)])
    await claim(world, "waits_0")
    world.advance(60)
    await refill(world)
    assert world.waiting() == 6


async def test_a_backlog_that_is_worked_off_in_order_is_left_alone(world: World) -> None:
    for n in range(30):
        await world.fill(1, f"waits_{n}")
        world.advance(8)
    for n in range(25):
        await claim(world, f"waits_{n}_0")
        world.advance(3)
        await refill(world)
        assert world.waiting() == 30
