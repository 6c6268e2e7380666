"""The records of batches, and what is done to many jobs at once."""

from __future__ import annotations

import asyncio

import pytest
from uuid_utils import uuid7

from forebay.batches import Batch, BatchJobs, RejectedItem, item_id
from forebay.jobs import Event, Idempotency, Job, JobState
from forebay.store import Inserted, JobQuery, JobRef, JobStore
from forebay.store.batches import BatchStore
from tests.contract.store.jobs import (
    PASSING,
    a_job,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    stored,
    token_of,
)


def a_batch(**changes: object) -> Batch:
    batch = Batch(
        id=f"batch_{uuid7().hex}", tenant="default", created_at=now(), total=2, accepted=2
    )
    return batch.evolve(**changes)


def jobs_of(batch: Batch, count: int) -> list[Job]:
    return [
        a_job(id=item_id(batch, n), batch_id=batch.id, custom_id=f"item {n}") for n in range(count)
    ]


async def test_a_batch_is_kept_as_it_was_opened(batches: BatchStore) -> None:
    batch = a_batch(
        metadata='{"a": 1}',
        rejected=(RejectedItem(7, '{"status": 422}'),),
        members=("job_1", "job_2"),
        idempotency=Idempotency("key", "f"),
    )
    assert await batches.open(batch) == batch
    assert await batches.open(batch) == batch
    assert await batches.get("default", batch.id) == batch
    assert await batches.get("other", batch.id) is None
    await batches.complete(batch.id)
    assert await batches.get("default", batch.id) == batch.evolve(complete=True)


async def test_the_same_key_is_the_same_batch_of_one_tenant(batches: BatchStore) -> None:
    key = Idempotency("key", "f")
    first, other, theirs = (
        a_batch(idempotency=key),
        a_batch(idempotency=Idempotency("key", "another body")),
        a_batch(idempotency=key, tenant="other"),
    )
    said = await asyncio.gather(*(batches.open(one) for one in (first, other, first)))
    assert len({batch.id for batch in said}) == 1
    assert (await batches.open(theirs)).id == theirs.id
    assert (await batches.open(a_batch())).id != said[0].id
    found = [await batches.find_by_key(tenant, "key") for tenant in ("default", "other", "third")]
    assert [one and one.tenant for one in found] == ["default", "other", None]
    assert await batches.find_by_key("default", "another key") is None


async def test_the_jobs_of_a_batch_are_the_same_however_often_they_are_stored(
    store: JobStore,
) -> None:
    batch = a_batch()
    jobs = jobs_of(batch, 3)
    await inserted(store, *jobs[:2])
    await claimed(store, jobs[0])
    assert await store.insert(jobs_of(batch, 3)) == [Inserted()] * 3
    assert (await stored(store, jobs[0])).state is JobState.RUNNING
    listed = await store.list(JobQuery(tenant="default", batch=batch.jobs, oldest_first=True))
    assert [job.custom_id for job in listed] == ["item 0", "item 1", "item 2"]


async def test_a_batch_is_counted_by_its_states(store: JobStore) -> None:
    batch, members = a_batch(), a_batch()
    jobs = jobs_of(batch, 3)
    other = a_job()
    await inserted(store, *jobs, other)
    await store.cancel("default", jobs[0].id)
    await claimed(store, jobs[1])
    counts = {JobState.CANCELED: 1, JobState.RUNNING: 1, JobState.QUEUED: 1}
    assert await store.tally("default", batch.jobs) == counts
    mixed = BatchJobs(members.id, (jobs[0].id, other.id, "job_gone"))
    assert await store.tally("default", mixed) == {JobState.CANCELED: 1, JobState.QUEUED: 1}
    assert await store.tally("other", batch.jobs) == {}
    found = await store.list(JobQuery(tenant="default", batch=mixed, oldest_first=True))
    assert {job.id for job in found} == {jobs[0].id, other.id}


async def test_many_are_canceled_at_once(store: JobStore) -> None:
    waiting, running, ended = a_job(), await started(store), await started(store)
    theirs = a_job(tenant="other")
    await inserted(store, waiting, theirs)
    await store.finish(ended.id, token_of(ended), an_ending(ended, Event.SUCCEEDED))
    ids = [waiting.id, running.id, ended.id, theirs.id, "job_gone"]
    assert await store.cancel_many("default", ids) == 2
    assert await store.cancel_many("default", ids) == 0
    states = [(await stored(store, job)).state for job in (waiting, running, ended, theirs)]
    assert states == [
        JobState.CANCELED,
        JobState.CANCELING,
        JobState.SUCCEEDED,
        JobState.QUEUED,
    ]


async def test_many_run_again_at_once_and_each_once(store: JobStore) -> None:
    failed, waiting = await started(store), a_job()
    theirs = await started(store, tenant="other")
    await inserted(store, waiting)
    for job in (failed, theirs):
        await store.finish(job.id, token_of(job), an_ending(job, Event.FAILED, error=PASSING))
    ids = [failed.id, waiting.id, theirs.id, "job_gone"]
    one, two = await asyncio.gather(*(store.retry_many("default", ids) for _ in range(2)))
    again = await stored(store, failed)
    assert [*one, *two] == [JobRef.of(again)]
    assert (again.state, again.generation, again.attempts) == (JobState.QUEUED, 2, 0)
    assert (await stored(store, waiting)).generation == 1
    assert (await stored(store, theirs)).state is JobState.FAILED


@pytest.mark.parametrize("index", [0, 1, 4095, 4096, 9_999])
def test_the_ids_of_a_batch_sort_as_its_items(index: int) -> None:
    batch = a_batch()
    assert len(item_id(batch, index)) == len("job_") + 32
    assert item_id(batch, index) == item_id(batch, index)
    assert item_id(batch, index) < item_id(batch, index + 1)
    assert item_id(batch, index) != item_id(a_batch(), index)
