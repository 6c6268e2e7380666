"""The pruner against what dead, late and racing workers leave among the large results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forebay.jobs import Event, Job
from forebay.store import Pruned
from forebay.store.indexes import JOBS, RESULTS
from forebay.store.mongo import MongoJobStore
from tests.contract.store.jobs import (
    HOUR,
    a_job,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    stored,
    token_of,
)

Action = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
async def empty(raw: Any) -> None:
    for name in (JOBS, RESULTS):
        await raw[name].delete_many({})


async def leave_chunks(
    raw: Any, job_id: str, token: str, count: int = 1, data: bytes = b"x"
) -> None:
    """What a worker has written that did not come to its end, or not yet."""
    chunk = {"job": job_id, "data": data, "expires_at": now() + HOUR}
    await raw[RESULTS].insert_many(
        [{"_id": f"{job_id}/{token}/{n}", **chunk} for n in range(count)]
    )


async def test_the_chunks_of_a_worker_that_died_before_its_end_are_removed(
    store: MongoJobStore, raw: Any
) -> None:
    job = await started(store, lease_s=0)
    await leave_chunks(raw, job.id, token_of(job), 3)
    # Nobody took the lease back yet, so its holder may still end the attempt.
    assert await store.prune(None, 10) == Pruned(0, None)
    await store.rescue(10)
    assert await store.prune(None, 10) == Pruned(3, None)


async def test_a_lease_that_was_taken_over_wants_its_own_chunks_only(
    store: MongoJobStore, raw: Any
) -> None:
    lost = await started(store, lease_s=0)
    held = await claimed(store, lost)
    await leave_chunks(raw, lost.id, token_of(lost))
    await leave_chunks(raw, held.id, token_of(held))
    assert await store.prune(None, 10) == Pruned(1, None)
    (kept,) = await raw[RESULTS].find({}).to_list(None)
    assert kept["_id"] == f"{held.id}/{token_of(held)}/0"


async def test_the_chunks_of_a_job_that_is_not_there_are_left_to_their_retention(
    store: MongoJobStore, raw: Any
) -> None:
    await leave_chunks(raw, "job_none", "token")
    assert await store.prune(None, 10) == Pruned(0, None)
    assert await raw[RESULTS].count_documents({}) == 1


class Between:
    """A collection whose second read of all is preceded by what somebody else does."""

    def __init__(self, collection: Any, reads: list[str], action: Action) -> None:
        self._collection = collection
        self._reads = reads
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find(self, *what: Any) -> Any:
        return BetweenCursor(self._collection.find(*what), self._reads, self._action)


class BetweenCursor:
    def __init__(self, cursor: Any, reads: list[str], action: Action) -> None:
        self._cursor = cursor
        self._reads = reads
        self._action = action

    def sort(self, key: str) -> BetweenCursor:
        self._cursor = self._cursor.sort(key)
        return self

    def limit(self, count: int) -> BetweenCursor:
        self._cursor = self._cursor.limit(count)
        return self

    async def to_list(self, length: int | None) -> Any:
        self._reads.append("read")
        if len(self._reads) == 2:
            await self._action()
        return await self._cursor.to_list(length)


async def prune_while(store: MongoJobStore, action: Action) -> Pruned:
    """One step of the pruner, with something happening between its two reads."""
    large, reads = store._large, []
    kept = large._chunks, large._jobs

    async def unwatched() -> None:
        large._chunks, large._jobs = kept
        await action()

    large._chunks, large._jobs = (Between(one, reads, unwatched) for one in kept)
    try:
        return await store.prune(None, 10)
    finally:
        large._chunks, large._jobs = kept
        assert len(reads) == 2


async def test_an_attempt_that_ends_between_the_two_reads_keeps_its_result(
    store: MongoJobStore, raw: Any
) -> None:
    job = await started(store)
    result = "r" * 300_000
    await leave_chunks(raw, job.id, token_of(job), data=result.encode())

    async def ends() -> None:
        await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=result))

    assert await prune_while(store, ends) == Pruned(0, None)
    assert await store.result(await stored(store, job)) == result


async def test_an_attempt_that_begins_between_the_two_reads_keeps_its_chunks(
    store: MongoJobStore, raw: Any
) -> None:
    waits = a_job()
    other = await started(store)
    await inserted(store, waits)
    await leave_chunks(raw, other.id, token_of(other))
    begun: list[Job] = []

    async def begins() -> None:
        begun.append(await claimed(store, waits))
        await leave_chunks(raw, waits.id, token_of(begun[0]))

    assert await prune_while(store, begins) == Pruned(0, None)
    assert await raw[RESULTS].count_documents({"job": waits.id}) == 1


async def test_the_walk_reads_no_chunk(store: MongoJobStore, raw: Any) -> None:
    job = await started(store)
    await leave_chunks(raw, job.id, token_of(job), 20)
    command = {
        "find": RESULTS,
        "filter": {"_id": {"$gt": ""}},
        "projection": {"_id": 1},
        "sort": {"_id": 1},
        "limit": 10,
    }
    explained = await raw.command("explain", command, verbosity="executionStats")
    stats = explained["executionStats"]
    assert (stats["nReturned"], stats["totalDocsExamined"]) == (10, 0)
    assert (await store.prune(None, 10)).reached == f"{job.id}/{token_of(job)}/17"
