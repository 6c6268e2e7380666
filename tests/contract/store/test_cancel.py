"""A job that its caller asks to stop."""

from __future__ import annotations

import asyncio

import pytest

from forebay.errors import ErrorCode
from forebay.jobs import Event, Job, JobState
from forebay.store import JobRef, JobStore, Refusal, Refused, Renewal
from tests.contract.store.jobs import (
    HOUR,
    PASSING,
    a_job,
    a_waiting_job,
    an_ending,
    inserted,
    started,
    stored,
    token_of,
)


@pytest.mark.parametrize(
    "job",
    [
        a_job(),
        a_waiting_job(HOUR),
        a_waiting_job(HOUR, state=JobState.RETRYING, attempts=1, error=PASSING),
    ],
    ids=lambda job: job.state.value,
)
async def test_what_waits_is_canceled_at_once_and_never_runs(store: JobStore, job: Job) -> None:
    await inserted(store, job)
    canceled = await store.cancel("default", job.id)
    assert canceled is not None
    assert canceled.error is not None
    assert (canceled.state, canceled.error.code) == (JobState.CANCELED, ErrorCode.CANCELED)
    assert canceled.finished_at is not None
    assert canceled.expires_at is not None
    assert (canceled.expires_at - canceled.finished_at).total_seconds() == job.result_ttl_s
    assert canceled.not_before is None
    assert canceled.attempts == job.attempts
    assert await stored(store, job) == canceled
    assert await store.claim(JobRef.of(job), "worker-1", 60) == Refused(Refusal.FINISHED)
    assert await store.finished([job.id]) == {job.id}
    for left in (await store.queue_due(10), await store.unpublished(0, 10)):
        assert [*left] == []


async def test_the_worker_of_a_running_job_is_told_and_ends_it(store: JobStore) -> None:
    job, other = await started(store), await started(store)
    assert await store.asked_to_stop([job.id, other.id]) == frozenset()
    asked = await store.cancel("default", job.id)
    assert asked is not None
    assert asked == job.evolve(state=JobState.CANCELING)
    assert await store.asked_to_stop([job.id, other.id, "job_gone"]) == {job.id}
    assert await store.renew(job.id, token_of(job), 60) is Renewal.CANCELING
    assert await store.renew(other.id, token_of(other), 60) is Renewal.HELD
    ended = await store.finish(job.id, token_of(job), an_ending(job, Event.CANCELED))
    assert ended is not None
    assert ended.state is JobState.CANCELED
    assert await store.asked_to_stop([job.id]) == frozenset()


async def test_a_running_job_whose_worker_is_gone_is_canceled_when_its_lease_ends(
    store: JobStore,
) -> None:
    job = await started(store, lease_s=0)
    asked = await store.cancel("default", job.id)
    assert asked is not None
    assert asked.state is JobState.CANCELING
    (taken,) = await store.rescue(10)
    assert (taken.ref.id, taken.state) == (job.id, JobState.CANCELED)


async def test_a_repeat_changes_nothing(store: JobStore) -> None:
    waiting, running = a_job(), await started(store)
    await inserted(store, waiting)
    for job in (waiting, running):
        first = await store.cancel("default", job.id)
        assert await store.cancel("default", job.id) == first
        assert await stored(store, job) == first


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.FAILED, Event.EXPIRED])
async def test_what_ended_stays_as_it_ended(store: JobStore, event: Event) -> None:
    job = await started(store)
    ended = await store.finish(job.id, token_of(job), an_ending(job, event))
    assert await store.cancel("default", job.id) == ended


async def test_a_canceled_job_can_be_run_again(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    await store.cancel("default", job.id)
    again = await store.retry("default", job.id)
    assert again is not None
    assert (again.state, again.generation, again.error) == (JobState.QUEUED, 2, None)


async def test_nobody_cancels_the_job_of_another_tenant(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    assert await store.cancel("other", job.id) is None
    assert await store.cancel("default", "job_unknown") is None
    assert await stored(store, job) == job


async def test_a_job_is_claimed_or_canceled_and_never_both(store: JobStore) -> None:
    for _ in range(20):
        job = a_job()
        await inserted(store, job)
        claim, canceled = await asyncio.gather(
            store.claim(JobRef.of(job), "worker-1", 60), store.cancel("default", job.id)
        )
        assert canceled is not None
        refused = claim == Refused(Refusal.FINISHED)
        assert canceled.state is (JobState.CANCELED if refused else JobState.CANCELING)
        assert (await stored(store, job)).state is canceled.state
