"""Which jobs a list shows, and in which order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from uuid_utils import uuid7

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job
from forebay.store import JobQuery, JobStore
from tests.contract.store.jobs import (
    HOUR,
    a_job,
    an_attempt,
    an_ending,
    inserted,
    now,
    started,
    token_of,
)

REJECTED = JobError(ErrorCode.PROVIDER_REJECTED, "no")


async def ids(store: JobStore, **filters: Any) -> list[str]:
    return [job.id for job in await store.list(JobQuery(tenant="default", **filters))]


def created(age: timedelta) -> Job:
    """A job whose id says the same as its date."""
    at = now() - age
    nanoseconds = round(at.timestamp() * 1000) * 1_000_000
    return a_job(id=f"job_{uuid7(nanoseconds=nanoseconds).hex}", created_at=at)


async def test_by_tag(store: JobStore) -> None:
    both, one, none = a_job(tags=("a", "b,c")), a_job(tags=("b,c",)), a_job()
    await inserted(store, both, one, none)
    assert await ids(store, tags=frozenset({"b,c"})) == [one.id, both.id]
    assert await ids(store, tags=frozenset({"a", "x"})) == [both.id]
    assert await ids(store, tags=frozenset({"x"})) == []


async def test_by_provider_and_error(store: JobStore) -> None:
    called, other = await started(store), await started(store)
    for job, provider in ((called, "acme"), (other, "emca")):
        attempt = an_attempt(job, "failed", provider=provider)
        ending = an_ending(job, Event.FAILED, attempt=attempt, error=REJECTED)
        await store.finish(job.id, token_of(job), ending)
    await inserted(store, a_job())
    assert await ids(store, providers=frozenset({"acme"})) == [called.id]
    assert await ids(store, providers=frozenset({"acme", "emca"})) == [other.id, called.id]
    assert await ids(store, errors=frozenset({"provider_rejected"})) == [other.id, called.id]
    assert await ids(store, errors=frozenset({"provider_timeout"})) == []
    both = {"providers": frozenset({"acme"}), "errors": frozenset({"provider_rejected"})}
    assert await ids(store, **both) == [called.id]


async def test_by_time_to_the_millisecond(store: JobStore) -> None:
    old, middle, young = created(2 * HOUR), created(HOUR), created(timedelta(0))
    await inserted(store, old, middle, young)
    moment, later = middle.created_at, middle.created_at + timedelta(milliseconds=1)
    assert await ids(store, created_from=moment) == [young.id, middle.id]
    assert await ids(store, created_from=later) == [young.id]
    assert await ids(store, created_before=moment) == [old.id]
    assert await ids(store, created_before=later) == [middle.id, old.id]
    assert await ids(store, created_from=moment, created_before=later) == [middle.id]
    assert await ids(store, created_from=moment + timedelta(microseconds=1)) == [young.id]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_in_either_order_a_cursor_goes_on_without_gap_or_repeat(
    store: JobStore, oldest_first: bool
) -> None:
    jobs = [created(n * HOUR) for n in range(5)]
    await inserted(store, *jobs)
    window = {"created_from": jobs[3].created_at, "created_before": jobs[0].created_at}
    seen: list[str] = []
    beyond = None
    while page := await ids(store, **window, oldest_first=oldest_first, limit=2, beyond=beyond):
        seen += page
        beyond = page[-1]
    newest_first = [job.id for job in jobs[1:4]]
    assert seen == (newest_first[::-1] if oldest_first else newest_first)
