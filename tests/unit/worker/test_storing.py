"""The end of an attempt on its way into the store: the lease, the fence and the message."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forebay.broker import DeadReason
from forebay.errors import ErrorCode, JobError, StoreUnavailable
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.outcomes import Failed, Outcome, Retry
from forebay.store import JobRef, Renewal
from forebay.worker.call import STORE_PAUSE_S
from tests.simulation.virtual_loop import VirtualLoop

from .conftest import DONE, TENANT, Rig, until

TOO_SLOW = JobError(ErrorCode.PROVIDER_TIMEOUT, "too slow", retryable=True)
UNREADABLE = JobError(ErrorCode.INVALID_INPUT, "no such page")


class Renewals:
    """What the store answered to renewals since the end of the call was first to be stored."""

    def __init__(self, rig: Rig) -> None:
        self.answers: list[Renewal] = []
        self._renew = rig.store.renew
        rig.store.renew = self  # type: ignore[assignment, method-assign]

    async def __call__(self, job_id: str, token: str, lease_s: float) -> Renewal:
        answer = await self._renew(job_id, token, lease_s)
        self.answers.append(answer)
        return answer


async def ended_while(rig: Rig, storing: Callable[[], Awaitable[None]]) -> Job:
    """A job as it is after its end; before each try to store it, `storing` is waited for."""
    finish = rig.store.finish

    async def slow(*args: Any) -> Job | None:
        await storing()
        return await finish(*args)

    rig.store.finish = slow  # type: ignore[assignment, method-assign]
    async with rig.working():
        await rig.submit()
        await rig.settled()
    return await rig.job()


async def test_the_lease_is_renewed_until_the_end_is_stored() -> None:
    rig = Rig(lease_s=0.03)
    renewals = Renewals(rig)
    job = await ended_while(rig, lambda: until(lambda: len(renewals.answers) >= 5))
    assert job.state is JobState.SUCCEEDED
    assert set(renewals.answers) == {Renewal.HELD}


async def test_a_result_is_stored_although_its_caller_asks_to_stop_meanwhile() -> None:
    rig = Rig(lease_s=0.03)
    renewals = Renewals(rig)

    async def canceled_meanwhile() -> None:
        await rig.store.cancel(TENANT, (await rig.job()).id)
        await until(lambda: renewals.answers.count(Renewal.CANCELING) >= 3)

    assert (await ended_while(rig, canceled_meanwhile)).state is JobState.SUCCEEDED


async def test_a_lease_that_is_lost_while_its_end_is_stored_ends_the_tries() -> None:
    rig = Rig(lease_s=0.03)
    finish, writing = rig.store.finish, asyncio.Event()
    tries = 0

    async def never_the_first_time(*args: Any) -> Job | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            writing.set()
            await asyncio.Event().wait()
        return await finish(*args)

    rig.store.finish = never_the_first_time  # type: ignore[assignment, method-assign]
    async with rig.working():
        job = await rig.submit()
        await writing.wait()
        rig.clock.advance(60)
        await rig.store.rescue(10)
        await rig.store.claim(JobRef.of(job), "another", 30)
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.result) == (JobState.RUNNING, None)
    assert job.lease is not None
    assert job.lease.worker == "another"
    assert tries == 2
    assert rig.consumer.settled == {"ack": 1}
    assert rig.counted("forebay_leases_lost_total", kind="search") == 1


async def test_a_lease_that_went_with_an_end_whose_answer_is_late_is_not_lost() -> None:
    rig = Rig(lease_s=0.03)
    finish = rig.store.finish
    tries = 0

    async def unanswered_the_first_time(*args: Any) -> Job | None:
        nonlocal tries
        tries += 1
        ended = await finish(*args)
        if tries == 1:
            await asyncio.Event().wait()
        return ended

    rig.store.finish = unanswered_the_first_time  # type: ignore[assignment, method-assign]
    rig.handler.answer = always(Retry(TOO_SLOW))
    async with rig.working():
        await rig.submit(max_attempts=1)
        await rig.settled()
    assert len((await rig.job()).history) == 1
    assert rig.consumer.settled == {"dead_letter": 1}
    assert rig.counted("forebay_leases_lost_total", kind="search") == 0


def test_an_end_is_tried_again_as_often_as_a_rescuer_looks() -> None:
    async def history() -> list[float]:
        rig = Rig()
        finish, stored = rig.store.finish, asyncio.Event()
        tried: list[float] = []

        async def away(*args: Any) -> Job | None:
            tried.append(asyncio.get_running_loop().time())
            if len(tried) < 40:
                raise StoreUnavailable
            stored.set()
            return await finish(*args)

        rig.store.finish = away  # type: ignore[assignment, method-assign]
        async with rig.working():
            await rig.submit()
            await stored.wait()
        assert (await rig.job()).state is JobState.SUCCEEDED
        return tried

    tried = VirtualLoop().run(history())
    assert max(b - a for a, b in itertools.pairwise(tried)) < STORE_PAUSE_S + 0.001


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Retry(TOO_SLOW), DeadReason.ATTEMPTS_EXHAUSTED),
        (Failed(UNREADABLE), DeadReason.INVALID_INPUT),
    ],
)
async def test_a_letter_that_its_worker_did_not_live_to_send_is_sent_by_the_next(
    outcome: Outcome, reason: DeadReason
) -> None:
    killed = Rig()
    survivor = Rig(clock=killed.clock, broker=killed.broker)
    survivor.store = killed.store
    finish, over = killed.store.finish, asyncio.Event()

    async def dies_after(*args: Any) -> Job | None:
        ended = await finish(*args)
        killed.consumer.vanish()
        await over.wait()
        return ended

    killed.store.finish = dies_after  # type: ignore[assignment, method-assign]
    killed.handler.answer = always(outcome)
    async with killed.working():
        await killed.submit(max_attempts=1)
        await until(lambda: killed.broker.held == 0 and bool(killed.handler.calls))
        async with survivor.working():
            await survivor.settled()
        assert survivor.consumer.settled == {"dead_letter": 1}
        (letter,) = killed.broker.dead(JobKind.SEARCH)
        assert letter.headers["x-forebay-reason"] == reason
        over.set()
    assert not survivor.handler.calls


async def test_a_letter_that_the_broker_did_not_take_is_sent_again(rig: Rig) -> None:
    bury = rig.broker.bury
    refused = iter([False])
    rig.broker.bury = lambda *args: next(refused, None) is None and bury(*args)  # type: ignore[method-assign]
    rig.handler.answer = always(Retry(TOO_SLOW))
    async with rig.working():
        await rig.submit(max_attempts=1)
        await rig.settled(2)
    assert rig.consumer.settled == {"give_back": 1, "dead_letter": 1}
    (letter,) = rig.broker.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-detail"].endswith(TOO_SLOW.detail)


async def test_another_message_of_a_dead_job_is_no_second_letter(rig: Rig) -> None:
    rig.handler.answer = always(Retry(TOO_SLOW))
    async with rig.working():
        job = await rig.submit(max_attempts=1)
        await rig.settled()
        await rig.publish(job)
        await rig.settled(2)
    assert rig.consumer.settled == {"dead_letter": 1, "ack": 1}


async def test_a_message_that_comes_again_for_a_job_that_succeeded_is_acknowledged(
    rig: Rig,
) -> None:
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    rig.concurrency = 1
    async with rig.working():
        job = await rig.submit()
        await rig.called()
        await rig.publish(job)
        await until(lambda: rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 0)
        rig.broker.cut()
        go.set()
        await rig.settled(3)
    assert rig.consumer.settled["ack"] == 2
    assert not rig.broker.dead(JobKind.SEARCH)


def always(outcome: Outcome) -> Any:
    async def answer(_: Job) -> Outcome:
        return outcome

    return answer
