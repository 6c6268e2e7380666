from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from forebay.errors import ErrorCode
from forebay.jobs import Event, Job, JobKind, JobState, Lane, OnUnknown
from forebay.store import Backlog, JobRef, JobStore, Rescue
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


async def unpublished_ids(store: JobStore, older_than_s: float = 0, limit: int = 100) -> list[str]:
    return [ref.id for ref in await store.unpublished(older_than_s, limit)]


async def test_a_queued_job_is_unpublished_until_its_confirm(store: JobStore) -> None:
    job = a_job(traceparent="00-a-b-01")
    await inserted(store, job)
    assert [*await store.unpublished(0, 10)] == [JobRef.of(job)]
    await store.mark_published([JobRef.of(job)])
    assert await unpublished_ids(store) == []
    assert (await stored(store, job)).published_at is not None


async def test_unpublished_is_oldest_first_bounded_and_not_too_young(store: JobStore) -> None:
    ages = [10, 30, 20, 0]
    jobs = [a_job(queued_at=now() - timedelta(seconds=age)) for age in ages]
    await inserted(store, *jobs)
    assert await unpublished_ids(store, 5) == [jobs[1].id, jobs[2].id, jobs[0].id]
    assert await unpublished_ids(store, 5, limit=1) == [jobs[1].id]


async def test_unpublished_leaves_out_the_routes_it_is_told_to(store: JobStore) -> None:
    crawl, bulk, search = a_job(kind=JobKind.CRAWL), a_job(lane=Lane.BULK), a_job()
    await inserted(store, crawl, bulk, search)
    without = [(JobKind.CRAWL, Lane.DEFAULT), (JobKind.SEARCH, Lane.BULK)]
    assert [ref.id for ref in await store.unpublished(0, 10, without)] == [search.id]


async def test_unclaimed_is_what_was_confirmed_and_nobody_took(store: JobStore) -> None:
    waiting, young, taken, other = a_job(), a_job(), a_job(), a_job(lane=Lane.BULK)
    await inserted(store, waiting, young, taken, other)
    await store.mark_published([JobRef.of(job) for job in (waiting, taken, other)])
    await claimed(store, taken)
    route = (JobKind.SEARCH, Lane.DEFAULT)
    assert [ref.id for ref in await store.unclaimed(route, 0, 10)] == [waiting.id]
    assert [*await store.unclaimed(route, 3600, 10)] == []


async def test_confirmed_are_the_queued_jobs_of_a_route_with_a_message(store: JobStore) -> None:
    waiting, unpublished, taken, other = a_job(), a_job(), a_job(), a_job(lane=Lane.BULK)
    await inserted(store, waiting, unpublished, taken, other)
    await store.mark_published([JobRef.of(job) for job in (waiting, taken, other)])
    await claimed(store, taken)
    assert await store.confirmed((JobKind.SEARCH, Lane.DEFAULT), 100) == 1
    assert await store.confirmed((JobKind.LLM, Lane.DEFAULT), 100) == 0


async def test_the_confirmed_are_counted_up_to_a_limit(store: JobStore) -> None:
    jobs = [a_job() for _ in range(5)]
    await inserted(store, *jobs, a_job(queued_at=now() - HOUR))
    await store.mark_published([JobRef.of(job) for job in jobs])
    route = (JobKind.SEARCH, Lane.DEFAULT)
    assert [await store.confirmed(route, limit) for limit in (1, 4, 5, 6)] == [1, 4, 5, 5]


async def test_the_unclaimed_are_oldest_first_and_page_by_page(store: JobStore) -> None:
    at = now() - HOUR
    jobs = [a_job(queued_at=at + timedelta(seconds=n)) for n in (3, 1, 2, 0, 0)]
    await inserted(store, *jobs)
    await store.mark_published([JobRef.of(job) for job in jobs])
    route = (JobKind.SEARCH, Lane.DEFAULT)
    oldest_first = [ref.id for ref in await store.unclaimed(route, 0, 10)]
    assert set(oldest_first[:2]) == {jobs[3].id, jobs[4].id}
    assert oldest_first[2:] == [jobs[1].id, jobs[2].id, jobs[0].id]
    assert [ref.id for ref in await store.unclaimed(route, 0, 3)] == oldest_first[:3]
    later = await store.unclaimed(route, 0, 10, at + timedelta(seconds=1))
    assert [ref.id for ref in later] == oldest_first[2:]


async def test_a_slightly_fast_clock_does_not_hide_what_is_unclaimed(store: JobStore) -> None:
    job = a_job(queued_at=now() + timedelta(seconds=3))
    await inserted(store, job)
    await store.mark_published([JobRef.of(job)])
    route = (JobKind.SEARCH, Lane.DEFAULT)
    assert [ref.id for ref in await store.unclaimed(route, 0, 10)] == [job.id]


async def test_a_job_from_a_clock_far_ahead_is_not_hidden(store: JobStore) -> None:
    job = a_job(queued_at=now() + HOUR)
    await inserted(store, job)
    assert await unpublished_ids(store, 5) == [job.id]


async def test_only_queued_jobs_are_unpublished(store: JobStore) -> None:
    await inserted(store, a_waiting_job(-HOUR), a_job(state=JobState.FAILED), a_canceling_job())
    await started(store)
    assert await unpublished_ids(store) == []


async def test_a_late_confirm_does_not_hide_a_later_stay(store: JobStore) -> None:
    job = a_job(queued_at=now() - HOUR)
    await inserted(store, job)
    running = await claimed(store, job)
    snooze = an_ending(running, Event.SNOOZED, uncount=True)
    await store.finish(job.id, token_of(running), snooze)
    await store.queue_due(10)
    await store.mark_published([JobRef.of(job)])
    assert await unpublished_ids(store) == [job.id]


async def test_a_late_confirm_of_an_older_attempt_or_generation_is_ignored(
    store: JobStore,
) -> None:
    job = a_job(attempts=1, generation=2)
    await inserted(store, job)
    await store.mark_published(
        [
            JobRef.of(job.evolve(attempts=0, queued_at=None)),
            JobRef.of(job.evolve(generation=1, queued_at=None)),
        ]
    )
    assert await unpublished_ids(store) == [job.id]


async def test_a_confirm_known_by_its_message_alone_counts(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    await store.mark_published([JobRef(job.id, 1, job.kind, job.lane)])
    await store.mark_published([])
    assert await unpublished_ids(store) == []


async def test_a_confirm_that_comes_after_the_claim_changes_nothing(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    running = await claimed(store, job)
    await store.mark_published([JobRef.of(job)])
    assert await stored(store, job) == running


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RETRYING])
async def test_what_is_due_is_queued_and_to_be_published(store: JobStore, state: JobState) -> None:
    due = a_waiting_job(-HOUR, state=state, attempts=1, published_at=now())
    await inserted(store, due, a_waiting_job(HOUR, state=state))
    (ref,) = await store.queue_due(10)
    queued = await stored(store, due)
    assert ref == JobRef.of(queued)
    assert (queued.state, queued.not_before, queued.published_at) == (JobState.QUEUED, None, None)
    assert queued.queued_at is not None
    assert abs(queued.queued_at - now()) < timedelta(seconds=30)
    assert [*await store.queue_due(10)] == []


async def test_due_jobs_are_taken_first_due_first_and_bounded(store: JobStore) -> None:
    jobs = [a_waiting_job(-n * HOUR) for n in (1, 3, 2)]
    await inserted(store, *jobs)
    assert {ref.id for ref in await store.queue_due(2)} == {jobs[1].id, jobs[2].id}
    assert {ref.id for ref in await store.queue_due(2)} == {jobs[0].id}


async def test_two_relays_at_once_queue_each_job_once(store: JobStore) -> None:
    jobs = [a_waiting_job(-HOUR) for _ in range(60)]
    await inserted(store, *jobs)
    turns = await asyncio.gather(*(store.queue_due(30) for _ in range(6)))
    queued = [ref.id for turn in turns for ref in turn]
    assert len(queued) == len(set(queued))
    queued += [ref.id for ref in await store.queue_due(100)]
    assert sorted(queued) == sorted(job.id for job in jobs)


async def rescued(store: JobStore, job: Job) -> Job:
    (rescue,) = await store.rescue(10)
    after = await stored(store, job)
    assert rescue == Rescue(JobRef.of(after), after.state, after.dead_lettered)
    assert after.lease is None
    assert after.published_at is None
    assert after.history[-1].outcome == "lease_lost"
    return after


async def test_a_live_lease_is_never_rescued(store: JobStore) -> None:
    job = await started(store, created_at=now() - 100 * HOUR, queued_at=now() - 100 * HOUR)
    assert [*await store.rescue(10)] == []
    assert await stored(store, job) == job


async def test_a_lease_that_still_holds_is_not_rescued_however_long_ago_the_call_began(
    store: JobStore,
) -> None:
    began = now() - 100 * HOUR
    job = a_canceling_job(state=JobState.RUNNING, started_at=began, queued_at=began)
    await inserted(store, job)
    assert [*await store.rescue(10)] == []
    assert await stored(store, job) == job


async def test_a_lost_lease_is_queued_again(store: JobStore) -> None:
    job = await started(store, lease_s=0, error=PASSING)
    after = await rescued(store, job)
    assert (after.state, after.attempts, after.error) == (JobState.QUEUED, 1, PASSING)
    assert (after.finished_at, after.expires_at, after.dead_lettered) == (None, None, False)
    record = after.history[0]
    assert (record.n, record.worker, record.started_at) == (1, "worker-1", job.started_at)
    assert after.queued_at == record.finished_at
    assert await unpublished_ids(store) == [job.id]
    assert (await claimed(store, after)).attempts == 2


async def test_a_lost_lease_without_an_attempt_left_is_a_dead_letter(store: JobStore) -> None:
    job = await started(store, lease_s=0, max_attempts=1, result_ttl_s=60)
    after = await rescued(store, job)
    assert (after.state, after.dead_lettered) == (JobState.FAILED, True)
    assert after.error is not None
    assert after.error.code is ErrorCode.ATTEMPTS_EXHAUSTED
    assert after.finished_at is not None
    assert after.expires_at == after.finished_at + timedelta(seconds=60)


@pytest.mark.parametrize("max_attempts", [3, 1], ids=["attempts left", "the last attempt"])
async def test_a_lost_call_that_must_not_be_repeated_fails_and_is_no_dead_letter(
    store: JobStore, max_attempts: int
) -> None:
    job = await started(store, lease_s=0, on_unknown=OnUnknown.FAIL, max_attempts=max_attempts)
    after = await rescued(store, job)
    assert (after.state, after.dead_lettered) == (JobState.FAILED, False)
    assert after.error is not None
    assert after.error.code is ErrorCode.OUTCOME_UNKNOWN


@pytest.mark.parametrize("changes", [{}, {"max_attempts": 1}, {"on_unknown": OnUnknown.FAIL}])
async def test_a_lost_lease_of_a_canceling_job_is_canceled(
    store: JobStore, changes: dict[str, Any]
) -> None:
    job = a_canceling_job(until=now() - HOUR, **changes)
    await inserted(store, job)
    after = await rescued(store, job)
    assert (after.state, after.dead_lettered) == (JobState.CANCELED, False)
    assert after.error is not None
    assert after.error.code is ErrorCode.CANCELED
    assert after.expires_at is not None


async def test_two_rescuers_at_once_take_each_job_once(store: JobStore) -> None:
    jobs = [await started(store, lease_s=0) for _ in range(40)]
    turns = await asyncio.gather(*(store.rescue(20) for _ in range(6)))
    taken = [rescue.ref.id for turn in turns for rescue in turn]
    assert len(taken) == len(set(taken))
    taken += [rescue.ref.id for rescue in await store.rescue(100)]
    assert sorted(taken) == sorted(job.id for job in jobs)
    after = [await stored(store, job) for job in jobs]
    assert all(len(job.history) == 1 for job in after)


async def test_a_rescue_is_bounded(store: JobStore) -> None:
    for _ in range(3):
        await started(store, lease_s=0)
    assert len(await store.rescue(2)) == 2
    assert len(await store.rescue(2)) == 1


@pytest.mark.parametrize(
    ("job", "limit"),
    [
        (a_job(start_by=now() - HOUR), "start_by"),
        (a_waiting_job(HOUR, start_by=now() - HOUR), "start_by"),
        (a_job(deadline=now() - HOUR), "deadline"),
        (
            a_waiting_job(HOUR, state=JobState.RETRYING, attempts=1, deadline=now() - HOUR),
            "deadline",
        ),
    ],
)
async def test_a_waiting_job_out_of_time_expires(store: JobStore, job: Job, limit: str) -> None:
    await inserted(store, job)
    assert await store.expire(10) == 1
    after = await stored(store, job)
    assert (after.state, after.not_before) == (JobState.EXPIRED, None)
    assert after.error is not None
    assert after.error.code is ErrorCode.DEADLINE_EXCEEDED
    assert f"`{limit}`" in after.error.detail
    assert after.expires_at is not None
    assert await store.expire(10) == 0


async def test_jobs_with_time_left_or_a_lease_do_not_expire(store: JobStore) -> None:
    running = await started(store)
    await inserted(
        store,
        a_job(),
        a_job(start_by=now() + HOUR, deadline=now() + HOUR),
        a_waiting_job(HOUR, state=JobState.RETRYING, attempts=1, start_by=now() - HOUR),
        a_canceling_job(deadline=now() - HOUR),
        running.evolve(id=running.id + "2", deadline=now() - HOUR),
        a_job(state=JobState.SUCCEEDED, deadline=now() - HOUR),
    )
    assert await store.expire(10) == 0


async def test_expiring_is_bounded_and_safe_for_two_at_once(store: JobStore) -> None:
    await inserted(store, *(a_job(start_by=now() - HOUR) for _ in range(10)))
    assert await store.expire(4) == 4
    assert sum(await asyncio.gather(store.expire(10), store.expire(10))) == 6


async def test_the_backlog_counts_what_is_not_terminal(store: JobStore) -> None:
    early, late = now() - 2 * HOUR, now() - HOUR
    await inserted(
        store,
        a_job(queued_at=late),
        a_job(queued_at=early),
        a_job(lane=Lane.BULK, kind=JobKind.LLM, queued_at=late),
        a_waiting_job(HOUR),
        a_job(state=JobState.SUCCEEDED),
        a_job(state=JobState.EXPIRED),
    )
    assert set(await store.backlog()) == {
        Backlog(JobKind.SEARCH, Lane.DEFAULT, JobState.QUEUED, 2, early),
        Backlog(JobKind.LLM, Lane.BULK, JobState.QUEUED, 1, late),
        Backlog(JobKind.SEARCH, Lane.DEFAULT, JobState.SCHEDULED, 1, None),
    }


async def test_an_empty_store_has_no_backlog(store: JobStore) -> None:
    assert [*await store.backlog()] == []
