"""The store on MongoDB: the only queries there are.

Here is what callers ask for; `claims.py` is the workers' part, `upkeep.py` the reconciler's. What
each query asks and writes is in `updates.py`; this file says when, and what the answer means.
Every write is one document's compare-and-set or a set of them, and safe to repeat.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from forebay.batches import BatchJobs
from forebay.errors import IllegalTransition, OtherGeneration, StoreUnavailable
from forebay.jobs import TERMINAL, TRANSITIONS, Event, Job, JobState, transition
from forebay.settings import StoreSettings
from forebay.store import (
    Inserted,
    InsertResult,
    JobQuery,
    JobRef,
    KeyTaken,
    selections,
    updates,
)
from forebay.store.client import Connection, connect
from forebay.store.documents import Document, from_document, to_document
from forebay.store.expressions import in_states
from forebay.store.fitness import prove_durable, prove_fit
from forebay.store.indexes import ACTIVE, COLLECTIONS, models
from forebay.store.mongo.base import TRIES, WITHOUT_TEXT, ref_of
from forebay.store.mongo.batches import MongoBatchStore
from forebay.store.mongo.claims import Claims
from forebay.store.mongo.endpoints import MongoEndpointStore
from forebay.store.mongo.keys import MongoKeyStore
from forebay.store.mongo.paces import MongoPaceStore
from forebay.store.mongo.upkeep import Upkeep
from forebay.telemetry.logging import Logger

_DUPLICATE = 11000
PREPARE_S = 60.0
"""An index on a large collection takes its time to build."""

_IF_THERE = {"$cond": [{"$eq": [{"$type": "$result"}, "string"]}, "", "$$REMOVE"]}
_SHORTENED: tuple[Document, ...] = ({"$unset": "input"}, {"$set": {"result": _IF_THERE}})
"""Without input, and of the result only whether there is one."""


@asynccontextmanager
async def open_store(
    settings: StoreSettings, logger: Logger | None = None
) -> AsyncIterator[MongoJobStore]:
    """The store as the settings say, closed at the end. Nothing is sent before the first call.

    With a logger it says when the store is lost and found.
    """
    connection = connect(settings, logger)
    try:
        yield MongoJobStore(connection)
    finally:
        await connection.close()


class MongoJobStore(Claims, Upkeep):
    """`JobStore` on a MongoDB replica set, by either driver."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.batches = MongoBatchStore(connection)
        """The records of batches, over the same connections."""
        self.keys = MongoKeyStore(connection)
        """API keys, likewise."""
        self.paces = MongoPaceStore(connection)
        """How quickly the queues are worked off."""
        self.endpoints = MongoEndpointStore(connection)
        """The webhook endpoints, over the same connections."""

    async def prepare(self, within_s: float = PREPARE_S) -> None:
        """See `JobStore.prepare`; `within_s` bounds the building of the indexes, in seconds."""
        async with self._connection.calling():
            await prove_fit(self._connection)
        async with self._connection.calling(within_s):
            await prove_durable(self._connection)
            for name in COLLECTIONS:
                await self._connection.collection(name).create_indexes(models(name))

    async def ping(self) -> None:
        """See `JobStore.ping`."""
        async with self._connection.calling():
            hello = await self._connection.client.admin.command("hello")
            if not hello.get("isWritablePrimary"):
                raise StoreUnavailable("MongoDB has no primary now")

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        """See `JobStore.insert`."""
        if not jobs:
            return []
        duplicates: list[Document] = []
        async with self._connection.calling():
            try:
                await self._jobs.insert_many([to_document(job) for job in jobs], ordered=False)
            except BulkWriteError as partly:
                duplicates = _duplicates(partly)
        taken = await self._taken_by_others([jobs[error["index"]] for error in duplicates])
        return [KeyTaken() if job.id in taken else Inserted() for job in jobs]

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore.get`."""
        return await self._one({"tenant": tenant, "_id": job_id})

    async def result(self, job: Job) -> str | None:
        """See `JobStore.result`."""
        return job.result if job.result is not None else await self._large.read(job)

    async def find_by_key(self, tenant: str, key: str) -> Job | None:
        """See `JobStore.find_by_key`."""
        # `$type` says what the partial index is about; without it the planner will not use it.
        condition = {"tenant": tenant, "idempotency.key": {"$eq": key, "$type": "string"}}
        return await self._one(condition)

    async def list(self, query: JobQuery) -> Sequence[Job]:
        """See `JobStore.list`."""
        order = ASCENDING if query.oldest_first else DESCENDING
        without = {"input": 0} if query.with_results else WITHOUT_TEXT
        found = self._jobs.find(selections.listed(query), without).sort("_id", order)
        if (index := selections.index_of(query)) is not None:
            found = found.hint(index)
        async with self._connection.calling():
            documents = await found.limit(query.limit).to_list(None)
        return [from_document(document) for document in documents]

    async def look_up(self, job_ids: Collection[str]) -> Sequence[Job]:
        """See `JobStore.look_up`."""
        pipeline: list[Document] = [{"$match": {"_id": {"$in": [*job_ids]}}}, *_SHORTENED]
        async with self._connection.calling():
            documents = await self._connection.aggregate(self._jobs, pipeline)
        jobs = [from_document(document) for document in documents]
        lost = await self._without_chunks(jobs)
        return [job.evolve(result_ref=None) if job.id in lost else job for job in jobs]

    async def finished(self, job_ids: Collection[str]) -> frozenset[str]:
        """See `JobStore.finished`."""
        if not job_ids:
            return frozenset()
        condition = {"_id": {"$in": [*job_ids]}, "state": {"$in": ACTIVE}}
        async with self._connection.calling():
            active = await self._jobs.find(condition, {"_id": 1}).to_list(None)
        return frozenset(job_ids) - {document["_id"] for document in active}

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        """See `JobStore.retry`."""
        condition = updates.of_tenant(tenant, job_id, updates.RETRYABLE)
        if generation is not None:
            condition["generation"] = generation
        # More than once only when the job ended before the reason against it could be read.
        for _ in range(TRIES):
            again = await self._swap(condition, updates.retry())
            if again is not None:
                return again
            job = await self.get(tenant, job_id)
            if job is None:
                return None
            if generation not in (None, job.generation):
                raise OtherGeneration
            transition(job.state, Event.REPLAYED)
        raise IllegalTransition(f"{job_id} is being retried by somebody else")

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """See `JobStore.cancel`."""
        # More than once only when the job was run again before it could be read.
        for _ in range(TRIES):
            condition = updates.of_tenant(tenant, job_id, updates.CANCELABLE)
            canceled = await self._swap(condition, updates.cancel())
            job = canceled or await self.get(tenant, job_id)
            if job is None or Event.CANCEL not in TRANSITIONS[job.state] or canceled is not None:
                return job
        raise IllegalTransition(f"{job_id} is being run again by somebody else")

    async def tally(self, tenant: str, jobs: BatchJobs) -> Mapping[JobState, int]:
        """See `JobStore.tally`."""
        pipeline: list[Document] = [
            {"$match": selections.of_batch(tenant, jobs)},
            {"$group": {"_id": "$state", "count": {"$sum": 1}}},
        ]
        async with self._connection.calling():
            groups = await self._connection.aggregate(self._jobs, pipeline)
        return {JobState(group["_id"]): group["count"] for group in groups}

    async def count_open(self, key_id: str, limit: int) -> int:
        """See `JobStore.count_open`."""
        async with self._connection.calling():
            return await self._jobs.count_documents(selections.open_of(key_id), limit=limit)

    async def cancel_many(self, tenant: str, job_ids: Collection[str]) -> int:
        """See `JobStore.cancel_many`."""
        states = in_states(updates.CANCELABLE)
        condition = {"_id": {"$in": [*job_ids]}, "tenant": tenant, **states}
        async with self._connection.calling():
            done = await self._jobs.update_many(condition, updates.cancel())
        return done.modified_count

    async def cancel_deliveries(self, tenant: str, endpoint_tag: str) -> int:
        """See `JobStore.cancel_deliveries`."""
        condition = updates.deliveries_of(tenant, endpoint_tag)
        async with self._connection.calling():
            done = await self._jobs.update_many(condition, updates.cancel())
        return done.modified_count

    async def retry_many(self, tenant: str, job_ids: Collection[str]) -> Sequence[JobRef]:
        """See `JobStore.retry_many`."""
        turn = secrets.token_hex(16)
        condition = {"tenant": tenant, **in_states(updates.RETRYABLE)}
        again = updates.retry_together(turn)
        moved = await self._changed(job_ids, condition, again, turn)
        return [ref_of(document) for document in moved]

    async def forget(self, tenant: str, job_id: str) -> bool:
        """See `JobStore.forget`."""
        ended = updates.of_tenant(tenant, job_id, TERMINAL)
        for _ in range(TRIES):
            async with self._connection.calling():
                document = await self._jobs.find_one_and_delete(ended)
            if document is not None:
                gone = from_document(document)
                if gone.result_ref is not None:
                    await self._large.remove(job_id, gone.result_ref)
                return True
            job = await self.get(tenant, job_id)
            if job is None:
                return False
            if not job.done:
                raise IllegalTransition(f"{job_id} is {job.state}, not at its end")
        raise IllegalTransition(f"{job_id} is being run again by somebody else")

    async def close(self) -> None:
        """See `JobStore.close`."""
        await self._connection.close()

    async def _without_chunks(self, jobs: Sequence[Job]) -> frozenset[str]:
        """Those of the jobs whose large result is not there, or not all of it."""
        chunks = {chunk: job.id for job in jobs for chunk in _chunk_ids(job)}
        if not chunks:
            return frozenset()
        found = self._results.find({"_id": {"$in": [*chunks]}}, {"_id": 1})
        async with self._connection.calling():
            there = {chunk["_id"] for chunk in await found.to_list(None)}
        return frozenset(job_id for chunk, job_id in chunks.items() if chunk not in there)

    async def _taken_by_others(self, jobs: Sequence[Job]) -> frozenset[str]:
        """Of jobs refused as duplicates, those whose key belongs to another job.

        The rest are there already under their own id: a repeat after an unknown answer.
        """
        if not jobs:
            return frozenset()
        async with self._connection.calling():
            found = self._jobs.find({"_id": {"$in": [job.id for job in jobs]}}, {"_id": 1})
            there = {document["_id"] for document in await found.to_list(None)}
        return frozenset(job.id for job in jobs) - there


def _duplicates(partly: BulkWriteError) -> list[Document]:
    """The duplicates of a bulk insert; any other failure is raised again."""
    errors: list[Document] = partly.details.get("writeErrors", [])
    only_duplicates = all(error["code"] == _DUPLICATE for error in errors)
    if partly.details.get("writeConcernErrors") or not only_duplicates:
        raise partly
    return errors


def _chunk_ids(job: Job) -> list[str]:
    """The ids that `LargeResults` gave the chunks of the job's result."""
    ref = job.result_ref
    return [] if ref is None else [f"{job.id}/{ref.token}/{n}" for n in range(ref.chunks)]
