"""Relay, rescuer, census, and the loop they share, on the shipped fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from forebay.errors import StoreUnavailable
from forebay.jobs import JobKind, JobState, Lane, OnUnknown
from forebay.store import JobRef
from forebay.store.memory import MemoryJobStore
from forebay.store.paces import MemoryPaceStore
from forebay.testing.broker import FakeBroker
from reconciler.census import Census
from reconciler.loop import run_loop

from .conftest import START, World


async def test_the_relay_leaves_a_fresh_job_to_whoever_accepted_it(world: World) -> None:
    await world.submit()
    world.advance(1.9)
    await world.relay().turn()
    assert world.waiting() == 0


async def test_the_relay_publishes_what_nobody_confirmed_and_only_once(world: World) -> None:
    await world.submit()
    world.advance(2.1)
    await world.relay().turn()
    assert (await world.job()).published_at is not None
    world.advance(60)
    await world.relay().turn()
    assert world.waiting() == 1


async def test_the_relay_publishes_a_scheduled_job_when_it_is_due(world: World) -> None:
    at = START + timedelta(seconds=30)
    await world.submit(state=JobState.SCHEDULED, not_before=at, queued_at=None)
    world.advance(29)
    await world.relay().turn()
    assert ((await world.job()).state, world.waiting()) == (JobState.SCHEDULED, 0)
    world.advance(1)
    await world.relay().turn()
    assert ((await world.job()).state, world.waiting()) == (JobState.QUEUED, 1)


@pytest.mark.parametrize(
    "fault",
    [
        lambda broker: broker.stop(),
        lambda broker: setattr(broker, "blocked", True),
        lambda broker: broker.unbound.add((JobKind.SEARCH, Lane.DEFAULT)),
        lambda broker: setattr(broker, "max_length", 0),
    ],
    ids=["down", "blocked", "unbound", "full"],
)
async def test_what_the_broker_does_not_take_stays_unpublished_and_is_tried_again(
    world: World, fault: Callable[[FakeBroker], object]
) -> None:
    await world.submit()
    world.advance(3)
    fault(world.broker)
    assert not await world.relay().turn()
    assert (await world.job()).published_at is None
    healthy = world.broker = FakeBroker()
    await world.relay().turn()
    assert healthy.waiting(JobKind.SEARCH, Lane.DEFAULT) == 1


async def test_a_full_batch_asks_for_another_turn_at_once(world: World) -> None:
    for n in range(5):
        await world.submit(f"job_{n}")
    world.advance(3)
    relay = world.relay(batch=2)
    assert [await relay.turn() for _ in range(3)] == [True, True, False]
    assert world.waiting() == 5


async def test_a_queue_that_refuses_does_not_hold_up_the_others(world: World) -> None:
    for n in range(5):
        await world.submit(f"job_{n}", kind=JobKind.CRAWL)
    world.broker.unbound.add((JobKind.CRAWL, Lane.DEFAULT))
    world.advance(1)
    await world.submit("younger")
    world.advance(3)
    relay = world.relay(batch=5)
    await relay.turn()
    await relay.turn()
    assert world.waiting() == 1
    world.broker.unbound.clear()
    await relay.turn()
    assert world.broker.waiting(JobKind.CRAWL, Lane.DEFAULT) == 0
    world.advance(2)
    await relay.turn()
    assert world.broker.waiting(JobKind.CRAWL, Lane.DEFAULT) == 5


async def test_the_rest_of_a_refusing_queue_grows_up_to_half_a_minute(world: World) -> None:
    await world.submit()
    world.advance(3)
    world.broker.unbound.add((JobKind.SEARCH, Lane.DEFAULT))
    relay, asked = world.relay(), []
    for _ in range(300):
        await relay.turn()
        asked.append(tuple(rest.pause_s for rest in relay._resting.values()))
        world.advance(1)
    assert asked[0] == (1.0,)
    assert asked[-1] == (30.0,)


async def test_the_rescuer_queues_a_job_whose_worker_is_gone(world: World) -> None:
    job = await world.submit()
    await world.store.claim(JobRef.of(job), "w", 30)
    world.advance(29)
    await world.rescuer().turn()
    assert (await world.job()).state is JobState.RUNNING
    world.advance(2)
    await world.rescuer().turn()
    job = await world.job()
    assert (job.state, job.attempts, job.published_at) == (JobState.QUEUED, 1, None)
    world.advance(3)
    await world.relay().turn()
    assert world.waiting() == 1


@pytest.mark.parametrize(
    ("changes", "code", "letters"),
    [
        ({"max_attempts": 1}, "attempts_exhausted", ["attempts_exhausted"]),
        ({"on_unknown": OnUnknown.FAIL}, "outcome_unknown", []),
        ({"on_unknown": OnUnknown.FAIL, "max_attempts": 1}, "outcome_unknown", []),
        ({}, None, []),
    ],
)
async def test_the_rescuer_fails_what_may_not_be_called_again_and_buries_what_has_no_attempt_left(
    world: World, changes: dict[str, Any], code: str | None, letters: list[str]
) -> None:
    job = await world.submit(**changes)
    await world.store.claim(JobRef.of(job), "w", 30)
    world.advance(31)
    await world.rescuer().turn()
    job = await world.job()
    assert (job.error.code if job.error else None) == code
    assert job.state is (JobState.FAILED if code else JobState.QUEUED)
    dead = world.broker.dead(JobKind.SEARCH)
    assert [letter.headers["x-forebay-reason"] for letter in dead] == letters
    assert all(letter.correlation_id == job.id for letter in dead)


async def test_a_rescue_does_not_depend_on_the_broker(world: World) -> None:
    job = await world.submit(max_attempts=1)
    await world.submit("late_start", start_by=START + timedelta(seconds=5))
    await world.store.claim(JobRef.of(job), "w", 30)
    world.advance(31)
    world.broker.stop()
    await world.rescuer().turn()
    assert (await world.job()).dead_lettered
    assert (await world.job("late_start")).state is JobState.EXPIRED


async def test_who_was_failed_is_buried_also_when_the_store_goes_away_in_the_same_turn(
    world: World,
) -> None:
    class Leaves(MemoryJobStore):
        async def expire(self, limit: int) -> int:
            raise StoreUnavailable(f"it was to expire {limit}")

    world.store = Leaves(lambda: world.now)
    job = await world.submit(max_attempts=1)
    await world.store.claim(JobRef.of(job), "w", 30)
    world.advance(31)
    with pytest.raises(StoreUnavailable):
        await world.rescuer().turn()
    (letter,) = world.broker.dead(JobKind.SEARCH)
    assert letter.correlation_id == job.id


async def test_a_call_ten_leases_long_that_renews_is_left_alone(world: World) -> None:
    job = await world.submit()
    claimed = await world.store.claim(JobRef.of(job), "w", 30)
    token = claimed.job.lease.token  # type: ignore[union-attr]
    for _ in range(30):
        world.advance(10)
        await world.store.renew(job.id, token, 30)
        await world.rescuer().turn()
    job = await world.job()
    assert (job.state, job.attempts) == (JobState.RUNNING, 1)


async def test_waiting_jobs_expire_at_their_limits(world: World) -> None:
    await world.submit("late_start", start_by=START + timedelta(seconds=5))
    await world.submit("late_end", deadline=START + timedelta(seconds=5))
    await world.submit("patient")
    world.advance(6)
    await world.rescuer().turn()
    assert (await world.job("late_start")).state is JobState.EXPIRED
    assert (await world.job("late_end")).state is JobState.EXPIRED
    assert (await world.job("patient")).state is JobState.QUEUED


async def test_the_census_shows_what_waits_and_forgets_what_is_gone(world: World) -> None:
    job = await world.submit()
    census = Census(world.store, MemoryPaceStore(), world.metrics)
    labels = {"kind": "search", "lane": "default", "state": "queued"}
    await census.turn()
    assert world.metrics.registry.get_sample_value("forebay_jobs_open", labels) == 1
    await world.store.claim(JobRef.of(job), "w", 30)
    await census.turn()
    assert world.metrics.registry.get_sample_value("forebay_jobs_open", labels) is None


async def test_the_census_tells_how_quickly_the_queues_are_worked_off(world: World) -> None:
    paces, route = MemoryPaceStore(), (JobKind.SEARCH, Lane.DEFAULT)
    for n in range(20):
        await world.submit(f"job_{n}")
    census = Census(world.store, paces, world.metrics, world.clock)
    await census.turn()
    assert await paces.told() is None
    for n in range(10):
        await world.store.claim(JobRef.of(await world.job(f"job_{n}")), "w", 30)
    await paces.add_ended({route: 10})
    world.advance(5)
    await census.turn()
    told = await paces.told()
    assert told is not None
    [pace] = told.paces
    assert (pace.route, pace.waiting, pace.per_s) == (route, 10, 2.0)
    labels = {"kind": "search", "lane": "default"}
    assert world.metrics.registry.get_sample_value("forebay_jobs_drain_rate", labels) == 2.0


async def test_a_loop_outlives_its_failures(world: World) -> None:
    answers = iter([StoreUnavailable(), ZeroDivisionError(), True, False])
    ended = asyncio.Event()

    async def turn() -> bool:
        answer = next(answers, None)
        if answer is None:
            ended.set()
            return False
        if isinstance(answer, Exception):
            raise answer
        return answer

    task = asyncio.create_task(run_loop("relay", turn, 0, world.metrics, world.logger))
    async with asyncio.timeout(5):
        await ended.wait()
    task.cancel()
    turns = world.metrics.registry.get_sample_value
    assert turns("forebay_loop_turns_total", {"loop": "relay", "outcome": "failed"}) == 2
