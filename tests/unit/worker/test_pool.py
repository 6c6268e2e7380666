"""Bounded concurrency, and what a drain does."""

from __future__ import annotations

import asyncio

import pytest

from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.outcomes import Outcome
from tests.simulation.virtual_loop import VirtualLoop

from .conftest import DONE, Rig, until


def gated(rig: Rig) -> asyncio.Event:
    """The handler answers once the event is set."""
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    return go


async def test_no_more_calls_run_than_the_concurrency_allows() -> None:
    rig = Rig(concurrency=3)
    go = gated(rig)
    async with rig.working():
        for n in range(20):
            await rig.submit(f"job_{n}")
        await rig.called(3)
        go.set()
        await rig.settled(20)
    assert rig.handler.most == 3
    assert len(rig.handler.calls) == 20


async def test_the_interactive_lane_overtakes_what_waits_in_the_worker() -> None:
    rig = Rig(concurrency=1)
    go = gated(rig)
    async with rig.working():
        await rig.submit("first", lane=Lane.BULK)
        await rig.called()
        await rig.submit("bulk", lane=Lane.BULK)
        await rig.submit("urgent", lane=Lane.INTERACTIVE)
        await until(lambda: rig.broker.waiting(JobKind.SEARCH, Lane.INTERACTIVE) == 0)
        go.set()
        await rig.settled(3)
    assert [job.id for job in rig.handler.calls] == ["first", "urgent", "bulk"]


async def test_a_drain_finishes_calls_and_gives_back_what_had_not_begun() -> None:
    rig = Rig(concurrency=1)
    go = gated(rig)
    async with rig.working() as worker:
        await rig.submit("running")
        await rig.called()
        await rig.submit("held")
        await until(lambda: rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 0)
        rig.process.signals.ask()
        await rig.settled()
        assert not worker.done()
        go.set()
    assert (await rig.job("running")).state is JobState.SUCCEEDED
    held = await rig.job("held")
    assert (held.state, held.attempts) == (JobState.QUEUED, 0)
    assert rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 1


async def test_a_second_signal_ends_a_drain_at_once() -> None:
    rig = Rig(grace_s=3600)
    gated(rig)
    async with rig.working() as worker:
        await rig.submit()
        await rig.called()
        rig.process.signals.ask()
        await until(lambda: rig.consumer.settled.total() == 0 and not worker.done())
        rig.process.signals.ask()
        async with asyncio.timeout(5):
            await worker
    assert (await rig.job()).state is JobState.QUEUED


@pytest.mark.parametrize("defect", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_defect_in_one_execution_leaves_its_neighbours_alone(
    rig: Rig, defect: type[BaseException]
) -> None:
    claim = rig.store.claim

    async def broken(*args: object, **more: object) -> object:
        if args[0].id == "bad":  # type: ignore[attr-defined]
            raise defect
        return await claim(*args, **more)  # type: ignore[arg-type]

    rig.store.claim = broken  # type: ignore[assignment, method-assign]
    async with rig.working():
        await rig.submit("bad")
        await rig.submit("good")
        await until(lambda: bool(rig.broker.dead(JobKind.SEARCH)))
        await until(lambda: rig.consumer.settled["ack"] == 1)
    assert (await rig.job("good")).state is JobState.SUCCEEDED
    assert (await rig.job("bad")).attempts == 0


def test_what_a_store_does_not_take_back_in_time_is_left_to_its_lease() -> None:
    async def history() -> Rig:
        rig = Rig(grace_s=0)
        gated(rig)

        async def away(*_: object) -> None:
            await asyncio.Event().wait()

        rig.store.finish = away  # type: ignore[assignment, method-assign]
        async with rig.working():
            await rig.submit()
            await rig.called()
        return rig

    rig = VirtualLoop().run(history())
    assert not rig.consumer.settled
    assert rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 1
