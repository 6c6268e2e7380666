"""A job that kills its worker: what becomes of the jobs beside it, with the real execution."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import ErrorCode
from forebay.jobs import Attempt, Job, JobKind, JobState, Lane
from forebay.outcomes import Outcome
from forebay.store.watch import Watch
from forebay.tasks import end
from forebay.worker.isolation import FIRST_WAIT_S, LAST_WAIT_S, wait_s

from .conftest import DONE, Rig, until


async def submit_suspect(rig: Rig, job_id: str) -> Job:
    lost = Attempt(
        n=1,
        generation=1,
        outcome="lease_lost",
        worker="w",
        started_at=rig.clock.now,
        finished_at=rig.clock.now,
    )
    return await rig.submit(job_id, attempts=2, history=(lost, lost))


def hold(rig: Rig, *job_ids: str) -> asyncio.Event:
    """The handler waits with these jobs until the event is set."""
    go = asyncio.Event()

    async def answer(job: Job) -> Outcome:
        if job.id in job_ids:
            await go.wait()
        return DONE

    rig.handler.answer = answer
    return go


async def test_one_suspect_runs_at_a_time_beside_any_number_of_others(rig: Rig) -> None:
    go = hold(rig, "job_a", "job_b", "job_c")
    async with rig.working():
        await submit_suspect(rig, "job_a")
        await rig.called()
        await submit_suspect(rig, "job_b")
        await rig.settled()
        await rig.submit("job_c")
        await rig.submit("job_d")
        await rig.called(3)
        assert [job.id for job in rig.handler.calls] == ["job_a", "job_c", "job_d"]
        waits = await rig.job("job_b")
        assert (waits.state, waits.attempts, len(waits.history)) == (JobState.RETRYING, 2, 2)
        assert waits.not_before is not None
        wait = (waits.not_before - rig.clock.now).total_seconds()
        assert FIRST_WAIT_S <= wait <= LAST_WAIT_S
        assert rig.counted("forebay_claims_refused_total", kind="search", reason="suspect") == 1
        go.set()
        await rig.settled(4)
    assert rig.consumer.settled == {"ack": 4}


async def test_the_place_is_free_again_when_the_suspect_has_ended(rig: Rig) -> None:
    async with rig.working():
        await submit_suspect(rig, "job_a")
        await rig.settled()
        await submit_suspect(rig, "job_b")
        await rig.settled(2)
    assert (await rig.job("job_a")).state is JobState.SUCCEEDED
    assert (await rig.job("job_b")).state is JobState.SUCCEEDED


async def test_two_suspects_that_come_at_once_do_not_both_find_the_place_free(rig: Rig) -> None:
    go = hold(rig, "job_a", "job_b")
    await submit_suspect(rig, "job_a")
    await submit_suspect(rig, "job_b")
    async with rig.working():
        await rig.settled()
        await rig.called()
        assert rig.handler.running == 1
        go.set()
        await rig.settled(2)


async def test_a_suspect_that_may_not_be_claimed_leaves_the_place_free(rig: Rig) -> None:
    async with rig.working():
        job = await submit_suspect(rig, "job_a")
        await rig.settled()
        await rig.publish(job)
        await rig.settled(2)
        await submit_suspect(rig, "job_b")
        await rig.settled(3)
    assert (await rig.job("job_b")).state is JobState.SUCCEEDED


def test_the_wait_is_spread() -> None:
    assert (wait_s(0), wait_s(1)) == (FIRST_WAIT_S, LAST_WAIT_S)


@pytest.mark.parametrize("most", [2, 3, 5])
async def test_a_job_that_kills_its_worker_fails_alone(most: int) -> None:
    rig = Rig(concurrency=20)
    killed = asyncio.Event()

    async def answer(job: Job) -> Outcome:
        if job.id == "poison":
            killed.set()
        if killed.is_set():
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return DONE

    rig.handler.answer = answer
    names = ["poison", *(f"job_{n}" for n in range(19))]
    for name in names:
        await rig.submit(name, max_attempts=most)
    for _ in range(100):
        killed.clear()
        await one_life(rig, killed)
        await what_the_reconciler_does(rig)
        ended = {name: await rig.job(name) for name in names}
        if all(job.done for job in ended.values()):
            break
    poison = ended.pop("poison")
    assert (poison.state, poison.attempts) == (JobState.FAILED, most)
    assert poison.error is not None
    assert poison.error.code is ErrorCode.ATTEMPTS_EXHAUSTED
    assert {job.state for job in ended.values()} == {JobState.SUCCEEDED}
    lost = [sum(one.outcome == "lease_lost" for one in job.history) for job in ended.values()]
    assert max(lost) <= 2


async def one_life(rig: Rig, killed: asyncio.Event) -> None:
    """A worker works until it is killed, or has nothing left to do."""
    messages = rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT)
    stops = Watch(rig.store.asked_to_stop, rig.process.logger, name="stop", tick_s=1)
    pool, consumer = rig.pool(stops), rig.broker.consumer(JobKind.SEARCH, 24)
    consuming = asyncio.create_task(consumer.run(pool.receive))
    await until(lambda: killed.is_set() or consumer.settled.total() == messages)
    # Its tasks are gone and its leases stay: a canceled execution writes and settles nothing.
    pool._closed = True
    await end(*pool._running)
    await consumer.close()
    await consuming


async def what_the_reconciler_does(rig: Rig) -> None:
    rig.broker.purge()
    rig.clock.advance(60)
    await rig.store.rescue(100)
    await rig.store.queue_due(100)
    for ref in await rig.store.unpublished(0, 100):
        await rig.publish(await rig.job(ref.id))
        await rig.store.mark_published([ref])
