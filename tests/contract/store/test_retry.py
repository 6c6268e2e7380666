"""A terminal job that is asked by hand to run again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forebay.errors import IllegalTransition, OtherGeneration
from forebay.jobs import Event, Idempotency, JobState, Usage
from forebay.store import JobQuery, JobRef, JobStore, Refusal, Refused
from forebay.store.results import INLINE_BYTES
from tests.contract.store.jobs import (
    HOUR,
    PASSING,
    a_canceling_job,
    a_job,
    a_waiting_job,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    stored,
    token_of,
)

LARGE = f'"{"x" * INLINE_BYTES}"'
ENDS: list[tuple[Event, dict[str, Any]]] = [
    (Event.SUCCEEDED, {"usage": Usage(1, 2)}),
    (Event.SUCCEEDED, {"result": LARGE}),
    (Event.FAILED, {"error": PASSING, "dead_lettered": True}),
    (Event.EXPIRED, {"error": PASSING}),
]


@pytest.mark.parametrize(("event", "changes"), ENDS, ids=["small", "large", "dead", "expired"])
async def test_a_retried_job_begins_anew_and_keeps_its_history(
    store: JobStore, event: Event, changes: dict[str, Any]
) -> None:
    about = {"metadata": '{"a": 1}', "idempotency": Idempotency("key", "f")}
    limits = {"start_by": now() + HOUR, "deadline": now() + HOUR}
    first = a_job(**about, **limits)
    await inserted(store, first)
    running = await claimed(store, first)
    ended = await store.finish(first.id, token_of(running), an_ending(running, event, **changes))
    assert ended is not None
    again = await store.retry("default", first.id)
    assert again is not None
    assert again.queued_at is not None
    assert again.queued_at >= ended.started_at
    # As it was submitted, but for these: result, error, usage and all times are gone.
    assert again == a_job(
        **about,
        id=first.id,
        created_at=first.created_at,
        generation=2,
        rounds=2,
        history=ended.history,
        queued_at=again.queued_at,
    )
    assert await stored(store, first) == again
    assert await store.result(again) is None


async def test_a_retried_job_is_to_be_published_and_has_all_its_attempts(store: JobStore) -> None:
    job = await started(store, max_attempts=1)
    await store.finish(job.id, token_of(job), an_ending(job, Event.FAILED, error=PASSING))
    again = await store.retry("default", job.id)
    assert again is not None
    assert [*await store.unpublished(0, 10)] == [JobRef.of(again)]
    running = await claimed(store, again)
    assert (running.attempts, running.generation) == (1, 2)
    ending = an_ending(running, Event.SUCCEEDED)
    ended = await store.finish(job.id, token_of(running), ending)
    assert ended is not None
    assert [attempt.generation for attempt in ended.history] == [1, 2]


async def test_what_the_earlier_generation_left_means_nothing(store: JobStore) -> None:
    job = await started(store)
    await store.finish(job.id, token_of(job), an_ending(job, Event.FAILED, error=PASSING))
    again = await store.retry("default", job.id)
    assert again is not None
    assert await store.claim(JobRef.of(job), "worker-2", 60) == Refused(Refusal.STALE)
    await store.mark_published([JobRef.of(job)])
    await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED))
    assert await stored(store, job) == again


@pytest.mark.parametrize(
    "job",
    [a_job(), a_waiting_job(HOUR), a_waiting_job(HOUR, state=JobState.RETRYING), a_canceling_job()],
    ids=lambda job: job.state,
)
async def test_only_a_terminal_job_can_be_retried(store: JobStore, job: Any) -> None:
    await inserted(store, job)
    with pytest.raises(IllegalTransition):
        await store.retry("default", job.id)
    assert await stored(store, job) == job


async def test_a_running_job_cannot_be_retried(store: JobStore) -> None:
    job = await started(store)
    with pytest.raises(IllegalTransition):
        await store.retry("default", job.id)
    assert await stored(store, job) == job


async def test_nobody_retries_anothers_job(store: JobStore) -> None:
    job = a_job(tenant="theirs", state=JobState.FAILED, expires_at=now() + HOUR)
    await inserted(store, job)
    assert await store.retry("ours", job.id) is None
    assert await store.retry("ours", "job_none") is None
    assert await store.get("theirs", job.id) == job


async def test_of_many_retries_at_once_one_counts(store: JobStore) -> None:
    job = a_job(state=JobState.FAILED)
    await inserted(store, job)
    answers = await asyncio.gather(
        *(store.retry("default", job.id) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, IllegalTransition) for answer in answers) == 19
    assert (await stored(store, job)).generation == 2


async def test_a_retry_of_the_generation_that_was_seen_counts_once(store: JobStore) -> None:
    job = a_job(state=JobState.FAILED)
    await inserted(store, job)
    again = await store.retry("default", job.id, 1)
    assert again is not None
    assert again.generation == 2
    # A repeat whose first answer was lost, and the other who saw the same: whatever became of it.
    with pytest.raises(OtherGeneration):
        await store.retry("default", job.id, 1)
    running = await claimed(store, again)
    with pytest.raises(OtherGeneration):
        await store.retry("default", job.id, 1)
    await store.finish(job.id, token_of(running), an_ending(running, Event.SUCCEEDED))
    ended = await stored(store, job)
    with pytest.raises(OtherGeneration):
        await store.retry("default", job.id, 1)
    assert await stored(store, job) == ended
    assert (ended.state, ended.generation) == (JobState.SUCCEEDED, 2)


async def test_a_generation_that_is_not_there_yet_is_another_one(store: JobStore) -> None:
    job = a_job(state=JobState.FAILED)
    await inserted(store, job)
    with pytest.raises(OtherGeneration):
        await store.retry("default", job.id, 2)
    assert await stored(store, job) == job


async def test_the_right_generation_makes_no_open_job_and_no_job_of_others_retryable(
    store: JobStore,
) -> None:
    job = await started(store)
    with pytest.raises(IllegalTransition) as refused:
        await store.retry("default", job.id, 1)
    assert not isinstance(refused.value, OtherGeneration)
    theirs = a_job(tenant="theirs", state=JobState.FAILED)
    await inserted(store, theirs)
    assert await store.retry("default", theirs.id, 1) is None
    assert await store.retry("default", theirs.id, 7) is None
    assert await stored(store, job) == job


async def test_a_list_is_filtered_by_whether_the_attempts_ran_out(store: JobStore) -> None:
    dead = [a_job(state=JobState.FAILED, dead_lettered=True) for _ in range(3)]
    other, theirs = a_job(state=JobState.FAILED), dead[0].evolve(id="job_x", tenant="theirs")
    await inserted(store, *dead, other, theirs)

    async def listed(**query: Any) -> list[str]:
        return [job.id for job in await store.list(JobQuery(tenant="default", **query))]

    assert await listed(dead_lettered=True) == [job.id for job in reversed(dead)]
    assert await listed(dead_lettered=True, beyond=dead[2].id, limit=1) == [dead[1].id]
    assert await listed(dead_lettered=False) == [other.id]
    assert len(await listed()) == 4
    await store.retry("default", dead[1].id)
    assert await listed(dead_lettered=True) == [dead[2].id, dead[0].id]
