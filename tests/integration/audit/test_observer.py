"""The observer of the chaos tests, on a real MongoDB."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from forebay.errors import StoreUnavailable
from forebay.jobs import Event, Job, JobState
from forebay.local.mongodb import MongoServer
from forebay.store.mongo import MongoJobStore
from forebay.testing.polling import until
from tests.chaos.observer import Observer, apply
from tests.contract.store.jobs import (
    PASSING,
    a_job,
    a_waiting_job,
    an_ending,
    claimed,
    now,
    started,
    stored,
    token_of,
)

from .test_audit import opened

pytestmark = pytest.mark.timeout(120)


class Watched:
    """A store of its own, the database behind it, and who observes it."""

    def __init__(self, store: MongoJobStore, raw: Any, seen: Observer) -> None:
        self.store = store
        self.raw = raw
        self.seen = seen

    async def breaches(self, job: Job) -> list[str]:
        """What was seen, if it was all of this job."""
        await self.seen.caught_up()
        found = self.seen.breaches()
        assert all(breach.startswith(f"{job.id}: ") for breach in found), found
        return [breach.removeprefix(f"{job.id}: ") for breach in found]


@pytest.fixture
async def watched(mongodb_url: str) -> AsyncIterator[Watched]:
    database = f"observer_{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        store, raw = await stack.enter_async_context(opened(mongodb_url, database))
        seen = await stack.enter_async_context(Observer(mongodb_url, database))
        yield Watched(store, raw, seen)


async def test_a_job_that_goes_every_way_is_seen_step_by_step_and_breaks_nothing(
    watched: Watched,
) -> None:
    store = watched.store
    job = a_waiting_job(timedelta(0), max_attempts=4)
    await store.insert([job])
    await store.queue_due(10)
    running = await claimed(store, await stored(store, job))
    ending = an_ending(running, Event.RETRY_LATER, error=PASSING)
    await store.finish(job.id, token_of(running), ending)
    running = await claimed(store, await stored(store, job))
    snoozed = an_ending(running, Event.SNOOZED, uncount=True)
    await store.finish(job.id, token_of(running), snoozed)
    await claimed(store, await stored(store, job), lease_s=0)
    await claimed(store, await stored(store, job), lease_s=0)
    await store.rescue(10)
    running = await claimed(store, await stored(store, job))
    await store.renew(job.id, token_of(running), 60)
    large = '"' + "r" * 300_000 + '"'
    ending = an_ending(running, Event.SUCCEEDED, result=large)
    await store.finish(job.id, token_of(running), ending)
    await store.retry("default", job.id)
    running = await claimed(store, await stored(store, job))
    await store.finish(job.id, token_of(running), an_ending(running, Event.SUCCEEDED))
    assert await watched.breaches(job) == []
    assert watched.seen.steps == 14
    assert watched.seen.jobs == {JobState.SUCCEEDED: 1}


async def test_what_the_events_make_of_a_job_is_what_the_store_has(watched: Watched) -> None:
    jobs = [await started(watched.store, max_attempts=9) for _ in range(5)]
    for _ in range(4):
        for job in jobs:
            running = await stored(watched.store, job)
            ending = an_ending(running, Event.HANDED_BACK)
            await watched.store.finish(job.id, token_of(running), ending)
            await claimed(watched.store, await stored(watched.store, job))
    await watched.seen.caught_up()
    documents = {one["_id"]: one async for one in watched.raw.jobs.find({}, {"input": 0})}
    built = watched.seen._observed.documents
    assert {i: sorted(one) for i, one in built.items()} == {
        i: sorted(one) for i, one in documents.items()
    }
    for job_id, document in documents.items():
        assert len(built[job_id]["history"]) == len(document["history"]) == 4
        assert built[job_id]["lease"]["token"] == document["lease"]["token"]


PLANTED: dict[str, tuple[dict[str, Any], str]] = {
    "a done job runs again": (
        {"$set": {"state": "running"}, "$unset": {"result": 1}},
        "succeeded became running: a terminal state is final",
    ),
    "a second result": ({"$set": {"result": '{"ok": false}'}}, "two different results"),
    "a lost result": ({"$unset": {"result": 1}}, "succeeded without a result"),
    "a kept lease": (
        {"$set": {"lease": {"token": "t", "worker": "w", "until": now()}}},
        "succeeded with a lease: a terminal job has none",
    ),
    "too many attempts": ({"$set": {"attempts": 9}}, "9 attempts, and 3 are allowed"),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_an_illegal_step_planted_by_hand_is_named(watched: Watched, planted: str) -> None:
    job = await started(watched.store)
    ending = an_ending(job, Event.SUCCEEDED)
    await watched.store.finish(job.id, token_of(job), ending)
    assert await watched.breaches(job) == []
    change, said = PLANTED[planted]
    await watched.raw.jobs.update_one({"_id": job.id}, change)
    assert said in await watched.breaches(job)


async def test_a_step_is_named_even_if_it_is_undone_at_once(watched: Watched) -> None:
    job = await started(watched.store)
    await watched.store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED))
    for state in ("queued", "succeeded"):
        await watched.raw.jobs.update_one({"_id": job.id}, {"$set": {"state": state}})
    assert "succeeded became queued: a terminal state is final" in await watched.breaches(job)


async def test_a_lease_given_while_another_is_live_is_named(watched: Watched) -> None:
    job = await started(watched.store)
    second = {"lease.token": "other", "attempts": 2, "started_at": now()}
    await watched.raw.jobs.update_one({"_id": job.id}, {"$set": second})
    assert await watched.breaches(job) == ["a new lease was given while the old one was live"]


async def test_a_job_replaced_or_removed_behind_our_back_is_named(watched: Watched) -> None:
    job = await started(watched.store)
    document = await watched.raw.jobs.find_one({"_id": job.id})
    await watched.raw.jobs.replace_one({"_id": job.id}, {**document, "state": "scheduled"})
    await watched.raw.jobs.delete_one({"_id": job.id})
    assert await watched.breaches(job) == [
        "running became scheduled: there is no such step",
        "scheduled with a lease",
        "it was removed while scheduled",
    ]


async def test_a_job_whose_beginning_was_not_seen_is_named(mongodb_url: str) -> None:
    database = f"observer_{uuid.uuid4().hex[:8]}"
    async with opened(mongodb_url, database) as (store, _):
        job = a_job()
        await store.insert([job])
        async with Observer(mongodb_url, database) as seen:
            await claimed(store, job)
            await seen.caught_up()
            assert seen.breaches() == [f"{job.id}: its beginning was not seen"]


async def test_a_store_that_is_killed_and_comes_back_hides_no_step(
    own_mongodb: MongoServer,
) -> None:
    database = f"observer_{uuid.uuid4().hex[:8]}"
    async with (
        opened(own_mongodb.url, database) as (store, raw),
        Observer(own_mongodb.url, database) as seen,
    ):
        jobs = [a_job() for _ in range(3)]
        for round_, job in enumerate(jobs):
            await patiently(store, job)
            # While the observer cannot see; it must find this when it is connected again.
            await own_mongodb.kill()
            await own_mongodb.start()
            step = {"$set": {"state": "scheduled", "attempts": round_}}
            await raw.jobs.update_one({"_id": job.id}, step)
        await seen.caught_up()
        assert seen.jobs == {JobState.SCHEDULED: 3}
        assert [f"{job.id}: queued became scheduled: there is no such step" for job in jobs] == [
            breach for breach in seen.breaches() if "became scheduled" in breach
        ]


async def patiently(store: MongoJobStore, job: Job) -> None:
    async def inserted() -> bool:
        try:
            await store.insert([job])
        except StoreUnavailable:
            return False
        return True

    await until(inserted)


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"updatedFields": {"a": 2, "b": {"c": 1}}}, {"a": 2, "b": {"c": 1}, "l": [1, {"x": 1}]}),
        ({"updatedFields": {"b.c": 2}}, {"a": 1, "b": {"c": 2}, "l": [1, {"x": 1}]}),
        ({"updatedFields": {"l.2": 3}}, {"a": 1, "b": {"c": 0}, "l": [1, {"x": 1}, 3]}),
        ({"updatedFields": {"l.1.x": 3}}, {"a": 1, "b": {"c": 0}, "l": [1, {"x": 3}]}),
        ({"removedFields": ["a", "b.c", "none"]}, {"b": {}, "l": [1, {"x": 1}]}),
        (
            {"truncatedArrays": [{"field": "l", "newSize": 1}], "updatedFields": {"l.0": 9}},
            {"a": 1, "b": {"c": 0}, "l": [9]},
        ),
    ],
)
def test_a_change_is_applied_as_the_event_says_it(change: Any, after: Any) -> None:
    document = {"a": 1, "b": {"c": 0}, "l": [1, {"x": 1}]}
    apply(document, change)
    assert document == after
