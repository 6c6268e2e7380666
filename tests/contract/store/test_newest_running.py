from __future__ import annotations

from datetime import timedelta

import pytest

from forebay.jobs import Event, JobKind, Lane
from forebay.store import JobRef, JobStore

from .jobs import a_job, an_ending, claimed, inserted, now, stored, token_of

ROUTE = (JobKind.SEARCH, Lane.DEFAULT)
MINUTE = timedelta(minutes=1)


async def test_without_a_running_job_there_is_no_newest(store: JobStore) -> None:
    waiting, other = a_job(), a_job(lane=Lane.BULK)
    await inserted(store, waiting, other)
    await store.mark_published([JobRef.of(job) for job in (waiting, other)])
    await claimed(store, other)
    assert await store.newest_running(ROUTE) is None


async def test_the_newest_running_is_the_one_queued_last(store: JobStore) -> None:
    first, second = a_job(queued_at=now() - 3 * MINUTE), a_job(queued_at=now() - 2 * MINUTE)
    unconfirmed = a_job(queued_at=now() - MINUTE)
    await inserted(store, first, second, unconfirmed)
    for job in (second, first):
        await store.mark_published([JobRef.of(job)])
        await claimed(store, job)
    await claimed(store, unconfirmed)
    assert await store.newest_running(ROUTE) == pytest.approx(120, abs=5)


async def test_a_clock_that_is_ahead_makes_no_job_newer_than_its_confirm(store: JobStore) -> None:
    ahead = a_job(queued_at=now() + 60 * MINUTE)
    await inserted(store, ahead)
    await store.mark_published([JobRef.of(ahead)])
    await claimed(store, ahead)
    assert await store.newest_running(ROUTE) == pytest.approx(0, abs=5)


async def test_a_job_that_ran_before_may_run_by_an_old_message_and_is_not_counted(
    store: JobStore,
) -> None:
    job = a_job()
    await inserted(store, job)
    running = await claimed(store, job)
    snooze = an_ending(running, Event.SNOOZED, uncount=True)
    await store.finish(job.id, token_of(running), snooze)
    await store.queue_due(10)
    await store.mark_published([JobRef.of(await stored(store, job))])
    await claimed(store, await stored(store, job))
    assert await store.newest_running(ROUTE) is None
