"""Writing a large result over a link that fails now and then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from forebay.errors import StoreUnavailable
from forebay.jobs import Event, Job
from forebay.store import Ending
from forebay.store.indexes import RESULTS
from forebay.store.mongo import MongoJobStore
from forebay.store.results import CHUNK_BYTES, OUTLIVES_JOB
from tests.contract.store.jobs import an_ending, started, token_of

CHUNKS = 5
RESULT = "0123456789abcdef" * (CHUNK_BYTES * CHUNKS // 16)


class FailingChunks:
    """The collection of chunks; each of the writes named here fails."""

    def __init__(self, collection: Any, *failing: int) -> None:
        self.written: list[int] = []
        """Which chunk of its result each write is about."""
        self._collection = collection
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def replace_one(self, condition: Any, chunk: Any, *, upsert: bool) -> Any:
        self.written.append(int(condition["_id"].rpartition("/")[2]))
        if len(self.written) in self._failing:
            raise AutoReconnect("the link broke")
        return await self._collection.replace_one(condition, chunk, upsert=upsert)


def an_end_of(job: Job) -> Ending:
    return an_ending(job, Event.SUCCEEDED, result=RESULT)


async def test_a_write_that_failed_goes_on_where_it_was(store: MongoJobStore) -> None:
    job = await started(store)
    store._large._chunks = chunks = FailingChunks(store._large._chunks, 3, 5)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.finish(job.id, token_of(job), an_end_of(job))
    done = await store.finish(job.id, token_of(job), an_end_of(job))
    assert done is not None
    assert chunks.written == [0, 1, 2, 2, 3, 3, 4]
    assert await store.result(done) == RESULT


async def test_what_an_earlier_try_wrote_lives_as_long_as_the_rest(
    store: MongoJobStore, raw: Any
) -> None:
    job = await started(store, result_ttl_s=60)
    store._large._chunks = FailingChunks(store._large._chunks, 3)
    with pytest.raises(StoreUnavailable):
        await store.finish(job.id, token_of(job), an_end_of(job))
    # As if the store had been away for an hour since then.
    hour_ago = {"$subtract": ["$expires_at", int(timedelta(hours=1).total_seconds() * 1000)]}
    await raw[RESULTS].update_many({"job": job.id}, [{"$set": {"expires_at": hour_ago}}])
    done = await store.finish(job.id, token_of(job), an_end_of(job))
    assert done is not None
    assert done.expires_at is not None
    found = await raw[RESULTS].find({"job": job.id}, {"expires_at": 1}).to_list(None)
    assert len(found) == CHUNKS
    for chunk in found:
        assert chunk["expires_at"] > done.expires_at + OUTLIVES_JOB - timedelta(minutes=1)
