"""One delivery from the claim to the settle."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from forebay.broker import DeadReason
from forebay.broker.envelope import Envelope
from forebay.errors import ErrorCode, JobError, StoreUnavailable
from forebay.jobs import Job, JobKind, JobState, Lane, OnUnknown
from forebay.outcomes import Call, Failed, Outcome, Retry, Snooze
from forebay.store import JobRef

from .conftest import DONE, Rig


async def test_a_job_is_called_once_stored_and_acknowledged(rig: Rig) -> None:
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert job.state is JobState.SUCCEEDED
    assert await rig.store.result(job) == DONE.result
    assert (job.attempts, len(rig.handler.calls)) == (1, 1)
    (attempt,) = job.history
    assert (attempt.outcome, attempt.provider, attempt.http_status) == ("succeeded", "acme", 200)
    assert rig.consumer.settled == {"ack": 1}
    assert rig.counted("forebay_tokens_total", direction="output") == 4
    assert rig.counted("forebay_attempts_total", kind="search", outcome="succeeded", code="") == 1


async def test_the_attempt_is_counted_before_the_call(rig: Rig) -> None:
    async with rig.working():
        await rig.submit()
        await rig.settled()
    (seen,) = rig.handler.calls
    assert (seen.attempts, seen.state) == (1, JobState.RUNNING)


async def test_what_can_pass_waits_in_the_store_and_its_message_is_acknowledged(rig: Rig) -> None:
    error = JobError(ErrorCode.PROVIDER_ERROR, "acme answered 500", retryable=True, retry_after_s=7)

    async def answer(_: Job) -> Outcome:
        return Retry(error, Call("acme", 500))

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert job.state is JobState.RETRYING
    assert job.not_before is not None
    assert timedelta(seconds=7) <= job.not_before - rig.clock.now <= timedelta(seconds=17)
    assert job.published_at is None
    assert rig.consumer.settled == {"ack": 1}


async def test_a_job_whose_attempts_ran_out_fails_and_its_message_is_a_dead_letter(
    rig: Rig,
) -> None:
    async def answer(_: Job) -> Outcome:
        return Retry(JobError(ErrorCode.PROVIDER_TIMEOUT, "too slow", retryable=True))

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit(max_attempts=1)
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.dead_lettered) == (JobState.FAILED, True)
    assert job.error is not None
    assert job.error.code is ErrorCode.ATTEMPTS_EXHAUSTED
    (attempt,) = job.history
    assert attempt.error is not None
    assert attempt.error.code is ErrorCode.PROVIDER_TIMEOUT
    (letter,) = rig.broker.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-reason"] == DeadReason.ATTEMPTS_EXHAUSTED


async def test_what_will_not_pass_fails_at_once(rig: Rig) -> None:
    async def answer(_: Job) -> Outcome:
        return Failed(JobError(ErrorCode.PROVIDER_AUTH, "FOREBAY_SEARCH_X_API_KEY is not set"))

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.PROVIDER_AUTH
    assert rig.consumer.settled == {"ack": 1}
    assert not rig.broker.dead(JobKind.SEARCH)


async def test_a_snooze_costs_no_attempt(rig: Rig) -> None:
    async def answer(_: Job) -> Outcome:
        return Snooze(30, "closed")

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.attempts) == (JobState.RETRYING, 0)
    assert job.not_before == rig.clock.now + timedelta(seconds=30)


@pytest.mark.parametrize("defect", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_handler_that_raises_is_our_fault_and_bounded_by_the_attempts(
    rig: Rig, defect: type[BaseException]
) -> None:
    """Some libraries end so what waits on a connection that died, and nobody canceled it."""

    async def answer(_: Job) -> Outcome:
        raise defect

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert job.state is JobState.RETRYING
    assert job.error is not None
    assert job.error.code is ErrorCode.INTERNAL
    assert rig.consumer.settled == {"ack": 1}


async def test_a_second_message_of_a_running_job_makes_no_second_call(rig: Rig) -> None:
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        job = await rig.submit()
        await rig.called()
        await rig.publish(job)
        await rig.settled()
        assert rig.counted("forebay_claims_refused_total", kind="search", reason="busy") == 1
        go.set()
        await rig.settled(2)
        await rig.publish(job)
        await rig.settled(3)
    assert len(rig.handler.calls) == 1
    assert (await rig.job()).state is JobState.SUCCEEDED


async def test_a_message_that_cannot_be_read_is_a_dead_letter_with_the_reason(rig: Rig) -> None:
    async with rig.working():
        rig.broker.put(JobKind.SEARCH, Lane.DEFAULT, garbage())
        await rig.settled()
    (letter,) = rig.broker.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-reason"] == DeadReason.MALFORMED
    assert letter.headers["x-forebay-detail"]
    assert not rig.handler.calls


async def test_a_message_of_an_unknown_job_is_a_dead_letter(rig: Rig) -> None:
    async with rig.working():
        job = await Rig().submit("job_of_another_store")
        await rig.publish(job)
        await rig.settled()
    (letter,) = rig.broker.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-reason"] == DeadReason.UNKNOWN_JOB


async def test_input_that_this_worker_cannot_read_fails_the_job_and_says_so(rig: Rig) -> None:
    async with rig.working():
        await rig.submit(input='{"query":""}')
        await rig.settled()
    job = await rig.job()
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_INPUT
    assert not rig.handler.calls
    (letter,) = rig.broker.dead(JobKind.SEARCH)
    assert letter.headers["x-forebay-reason"] == DeadReason.INVALID_INPUT


async def test_a_call_that_takes_too_long_is_stopped_and_tried_later() -> None:
    rig = Rig(timeout_s=0.01)
    stopped = hanging(rig)
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert stopped.is_set()
    assert job.state is JobState.RETRYING
    assert job.error is not None
    assert job.error.code is ErrorCode.PROVIDER_TIMEOUT


async def test_a_call_is_stopped_at_the_deadline_and_the_job_expires(rig: Rig) -> None:
    stopped = hanging(rig)
    async with rig.working():
        await rig.submit(deadline=rig.clock.now + timedelta(milliseconds=10))
        await rig.settled()
    job = await rig.job()
    assert stopped.is_set()
    assert job.state is JobState.EXPIRED
    assert rig.consumer.settled == {"ack": 1}


async def test_the_lease_is_renewed_while_the_call_runs() -> None:
    rig = Rig(lease_s=0.03)
    renewals = 0
    go = asyncio.Event()
    renew = rig.store.renew

    async def counting(job_id: str, token: str, lease_s: float) -> object:
        nonlocal renewals
        renewals += 1
        if renewals == 10:
            go.set()
        return await renew(job_id, token, lease_s)

    rig.store.renew = counting  # type: ignore[assignment, method-assign]

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


async def test_a_renewal_that_loses_its_cancellation_does_not_hold_the_job() -> None:
    rig = Rig(lease_s=0.03)
    renewing, answered = asyncio.Event(), asyncio.Event()
    renew = rig.store.renew

    async def deaf_once(job_id: str, token: str, lease_s: float) -> object:
        if renewing.is_set():
            return await renew(job_id, token, lease_s)
        renewing.set()
        try:
            await answered.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass  # as asyncio.wait_for on Python 3.11 may do
        return await renew(job_id, token, lease_s)

    rig.store.renew = deaf_once  # type: ignore[assignment, method-assign]

    async def answer(_: Job) -> Outcome:
        await renewing.wait()
        answered.set()
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    assert (await rig.job()).state is JobState.SUCCEEDED


async def test_a_call_whose_lease_is_gone_is_stopped_and_writes_nothing() -> None:
    rig = Rig(lease_s=0.03)
    stopped = hanging(rig)
    async with rig.working():
        await rig.submit()
        await rig.called()
        rig.clock.advance(60)
        (rescue,) = await rig.store.rescue(10)
        await rig.settled()
    job = await rig.job()
    assert stopped.is_set()
    assert rescue.state is JobState.QUEUED
    assert (job.state, [attempt.outcome for attempt in job.history]) == (
        JobState.QUEUED,
        ["lease_lost"],
    )
    assert rig.counted("forebay_leases_lost_total", kind="search") == 1


async def test_a_late_result_is_refused_when_another_worker_has_the_job(rig: Rig) -> None:
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        job = await rig.submit()
        await rig.called()
        rig.clock.advance(60)
        await rig.store.rescue(10)
        await rig.store.claim(JobRef.of(job), "another", 30)
        go.set()
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.result) == (JobState.RUNNING, None)
    assert job.lease is not None
    assert job.lease.worker == "another"


async def test_an_attempt_that_lost_its_lease_leaves_no_dead_letter(rig: Rig) -> None:
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return Retry(JobError(ErrorCode.PROVIDER_TIMEOUT, "too slow", retryable=True))

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit(max_attempts=1)
        await rig.called()
        rig.clock.advance(60)
        await rig.store.rescue(10)
        go.set()
        await rig.settled()
    assert rig.consumer.settled == {"ack": 1}
    assert not rig.broker.dead(JobKind.SEARCH)


async def test_a_claim_whose_answer_was_lost_is_asked_again_and_counts_once(rig: Rig) -> None:
    claim = rig.store.claim
    lost = iter([StoreUnavailable()])

    async def answer_lost(*args: object, **more: object) -> object:
        answer = await claim(*args, **more)  # type: ignore[arg-type]
        for failure in lost:
            raise failure
        return answer

    rig.store.claim = answer_lost  # type: ignore[assignment, method-assign]
    async with rig.working():
        await rig.submit(max_attempts=1)
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


async def test_a_message_is_settled_only_when_the_outcome_is_written(rig: Rig) -> None:
    writing, go = slow_to_finish(rig)
    async with rig.working():
        await rig.submit()
        await writing.wait()
        assert not rig.consumer.settled
        go.set()
        await rig.settled()
    assert rig.consumer.settled == {"ack": 1}


async def test_a_message_goes_back_only_when_its_job_has() -> None:
    rig = Rig(grace_s=0)
    hanging(rig)
    writing, go = slow_to_finish(rig)
    async with rig.working():
        await rig.submit()
        await rig.called()
        rig.process.signals.ask()
        await writing.wait()
        assert not rig.consumer.settled
        go.set()
    assert rig.consumer.settled == {"give_back": 1}


def slow_to_finish(rig: Rig) -> tuple[asyncio.Event, asyncio.Event]:
    """The store writes an ending only after the second event; the first says that it was asked."""
    finish = rig.store.finish
    writing, go = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> object:
        writing.set()
        await go.wait()
        return await finish(*args)  # type: ignore[arg-type]

    rig.store.finish = slow  # type: ignore[assignment, method-assign]
    return writing, go


async def test_a_store_that_is_away_is_asked_again_until_it_answers(rig: Rig) -> None:
    finish = rig.store.finish
    failures = iter([StoreUnavailable(), StoreUnavailable()])

    async def flaky(*args: object) -> object:
        for failure in failures:
            raise failure
        return await finish(*args)  # type: ignore[arg-type]

    rig.store.finish = flaky  # type: ignore[assignment, method-assign]
    async with rig.working():
        await rig.submit()
        await rig.settled()
    assert (await rig.job()).state is JobState.SUCCEEDED
    assert len(rig.handler.calls) == 1


async def test_a_lost_connection_does_not_stop_a_call(rig: Rig) -> None:
    go = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        await go.wait()
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.called()
        rig.broker.cut()
        await rig.settled()  # the redelivered message: refused, because the lease is alive
        go.set()
        await rig.settled(2)
    assert (await rig.job()).state is JobState.SUCCEEDED
    assert len(rig.handler.calls) == 1
    assert rig.consumer.settled["lost"] == 1


@pytest.mark.parametrize(
    ("on_unknown", "max_attempts", "state"),
    [
        (OnUnknown.RETRY, 3, JobState.QUEUED),
        (OnUnknown.RETRY, 1, JobState.FAILED),
        (OnUnknown.FAIL, 3, JobState.FAILED),
    ],
)
async def test_a_call_aborted_at_the_end_of_a_drain_hands_its_job_back(
    on_unknown: OnUnknown, max_attempts: int, state: JobState
) -> None:
    rig = Rig(grace_s=0)
    stopped = hanging(rig)
    async with rig.working():
        await rig.submit(on_unknown=on_unknown, max_attempts=max_attempts)
        await rig.called()
    job = await rig.job()
    assert stopped.is_set()
    assert (job.state, job.attempts) == (state, 1)
    waiting = rig.broker.waiting(JobKind.SEARCH, Lane.DEFAULT)
    assert waiting == (1 if state is JobState.QUEUED else 0)


def garbage() -> Envelope:
    return Envelope(body=b"\xff not json", routing_key="search.default", type="forebay.job.v1")


def hanging(rig: Rig) -> asyncio.Event:
    """The handler never answers; the event says that it was stopped."""
    stopped = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return DONE

    rig.handler.answer = answer
    return stopped
