from __future__ import annotations

from datetime import timedelta

import pytest

from forebay.jobs import JobKind, Lane
from forebay.store import JobRef, JobStore

from .jobs import a_job, claimed, inserted, now

ROUTE = (JobKind.SEARCH, Lane.DEFAULT)
PROMPT_S = 5.0


async def test_without_a_running_job_there_is_no_newest(store: JobStore) -> None:
    waiting, other = a_job(), a_job(lane=Lane.BULK)
    await inserted(store, waiting, other)
    await store.mark_published([JobRef.of(job) for job in (waiting, other)])
    await claimed(store, other)
    assert await store.newest_running(ROUTE, PROMPT_S) is None


async def test_the_newest_running_is_the_one_confirmed_last(store: JobStore) -> None:
    first, second, unconfirmed = a_job(), a_job(), a_job()
    await inserted(store, first, second, unconfirmed)
    for job in (first, second):
        await store.mark_published([JobRef.of(job)])
        await claimed(store, job)
    await claimed(store, unconfirmed)
    confirmed = (await store.look_up([second.id]))[0].published_at
    assert confirmed is not None
    age_s = await store.newest_running(ROUTE, PROMPT_S)
    assert age_s == pytest.approx((now() - confirmed).total_seconds(), abs=5)


async def test_a_job_confirmed_long_after_it_was_queued_is_not_counted(store: JobStore) -> None:
    late = a_job(queued_at=now() - timedelta(seconds=60))
    await inserted(store, late)
    await store.mark_published([JobRef.of(late)])
    await claimed(store, late)
    assert await store.newest_running(ROUTE, PROMPT_S) is None
    assert await store.newest_running(ROUTE, 120) is not None
