"""Calls whose caller wants them stopped."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Job, JobState
from forebay.outcomes import Outcome, Retry, Snooze

from .conftest import Rig


@pytest.mark.parametrize(
    "outcome",
    [
        Retry(JobError(ErrorCode.PROVIDER_ERROR, "acme answered 500", retryable=True)),
        Snooze(60, "closed"),
    ],
)
async def test_a_job_whose_caller_asked_to_stop_waits_for_no_other_attempt(
    rig: Rig, outcome: Outcome
) -> None:
    async def answer(job: Job) -> Outcome:
        await rig.store.cancel(job.tenant, job.id)
        return outcome

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    job = await rig.job()
    assert job.error is not None
    assert (job.state, job.error.code) == (JobState.CANCELED, ErrorCode.CANCELED)
    assert (job.attempts, rig.consumer.settled) == (1, {"ack": 1})


async def test_a_call_that_is_to_stop_is_stopped_long_before_its_lease_is_renewed() -> None:
    rig = Rig(lease_s=3600, look_s=0.01)
    stopped = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()
        raise AssertionError("nobody answers it")

    rig.handler.answer = answer
    async with rig.working():
        job = await rig.submit()
        await rig.called()
        await rig.store.cancel(job.tenant, job.id)
        await asyncio.wait_for(stopped.wait(), 5)
        await rig.settled()
    job = await rig.job()
    assert (job.state, job.attempts) == (JobState.CANCELED, 1)
    assert [attempt.outcome for attempt in job.history] == ["canceled"]
    assert rig.consumer.settled == {"ack": 1}
