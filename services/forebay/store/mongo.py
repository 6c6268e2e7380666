"""The store on MongoDB: the only queries there are.

What each query asks and writes is in `updates.py`; this file says when, and what the answer means.
Every write is one document's compare-and-set or a set of them, and safe to repeat.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from pymongo import DESCENDING, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import IllegalTransition, JobError, OtherGeneration, StoreUnavailable
from forebay.jobs import Event, Job, JobKind, JobState, Lane, expiry_error, transition
from forebay.settings import StoreSettings
from forebay.store import (
    Backlog,
    Claimed,
    Ending,
    Inserted,
    InsertResult,
    JobQuery,
    JobRef,
    KeyTaken,
    Pruned,
    Refusal,
    Refused,
    Renewal,
    Rescue,
    Route,
    updates,
)
from forebay.store.client import Connection, connect
from forebay.store.documents import Document, from_document, to_document, utf8
from forebay.store.fitness import prove_durable, prove_fit
from forebay.store.indexes import ACTIVE, JOBS, RESULTS, models
from forebay.store.refusals import refusal, refused
from forebay.store.results import INLINE_BYTES, LargeResults
from forebay.telemetry.logging import Logger

_DUPLICATE = 11000
_TRIES = 3
PREPARE_S = 60.0
"""An index on a large collection takes its time to build."""

_MOST_UNPUBLISHED = 10_000
"""Unpublished jobs read to say how many are confirmed. An ingress and the relay leave fewer."""

_REF_FIELDS = dict.fromkeys(
    ("generation", "kind", "lane", "attempts", "traceparent", "queued_at"), 1
)
_MOVED_FIELDS = {**_REF_FIELDS, "state": 1, "dead_lettered": 1}
_WITHOUT_TEXT = {"input": 0, "result": 0}
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


class MongoJobStore:
    """`JobStore` on a MongoDB replica set, by either driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs = connection.collection(JOBS)
        self._results = connection.collection(RESULTS)
        self._large = LargeResults(connection)

    async def prepare(self, within_s: float = PREPARE_S) -> None:
        """See `JobStore.prepare`; `within_s` bounds the building of the indexes, in seconds."""
        async with self._connection.calling():
            await prove_fit(self._connection)
        async with self._connection.calling(within_s):
            await prove_durable(self._connection)
            for name in (JOBS, RESULTS):
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
        condition: Document = {"tenant": query.tenant}
        if query.states:
            condition |= updates.in_states(query.states)
        if query.kinds:
            condition["kind"] = {"$in": sorted(query.kinds)}
        if query.dead_lettered is not None:
            condition["dead_lettered"] = query.dead_lettered
        if query.before is not None:
            condition["_id"] = {"$lt": query.before}
        found = self._jobs.find(condition, _WITHOUT_TEXT).sort("_id", DESCENDING)
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

    async def claim(
        self,
        ref: JobRef,
        worker: str,
        lease_s: float,
        token: str | None = None,
        *,
        suspects: bool = True,
    ) -> Claimed | Refused:
        """See `JobStore.claim`."""
        token = token or secrets.token_hex(16)
        pipeline = updates.claim(token, worker, lease_s)
        # More than once only when the reason against it went away before it could be read.
        for _ in range(_TRIES):
            claimed = await self._swap(updates.claimable(ref, token, suspects=suspects), pipeline)
            if claimed is not None:
                return Claimed(claimed)
            against = await self._reason_against(ref, suspects)
            if against is not None:
                # A first try whose answer was lost: the lease is ours already.
                mine = await self._one({"_id": ref.id, "lease.token": token})
                return against if mine is None else Claimed(mine)
        return Refused(Refusal.BUSY)

    async def postpone(self, ref: JobRef, wait_s: float) -> None:
        """See `JobStore.postpone`."""
        async with self._connection.calling():
            await self._jobs.update_one(updates.postponable(ref), updates.postpone(wait_s))

    async def renew(self, job_id: str, token: str, lease_s: float) -> Renewal:
        """See `JobStore.renew`."""
        async with self._connection.calling():
            document = await self._jobs.find_one_and_update(
                updates.held(job_id, token), updates.renew(lease_s), projection={"state": 1}
            )
        if document is None:
            return Renewal.LOST
        canceling = document["state"] == JobState.CANCELING
        return Renewal.CANCELING if canceling else Renewal.HELD

    async def finish(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """See `JobStore.finish`."""
        data = utf8(ending.result or "")
        if len(data) > INLINE_BYTES:
            return await self._finish_large(job_id, token, ending, data)
        condition = updates.endable(job_id, token, ending)
        ended = await self._swap(condition, updates.end(token, ending))
        if ended is None:
            return await self._after_missed_end(job_id, token, ending)
        return ended

    async def mark_published(self, refs: Sequence[JobRef]) -> None:
        """See `JobStore.mark_published`."""
        if refs:
            marks = [UpdateOne(updates.awaiting_confirm(r), updates.published()) for r in refs]
            async with self._connection.calling():
                await self._jobs.bulk_write(marks, ordered=False)

    async def unclaimed(
        self, route: Route, older_than_s: float, limit: int, after: datetime | None = None
    ) -> Sequence[JobRef]:
        """See `JobStore.unclaimed`."""
        found = self._jobs.find(updates.unclaimed(route, older_than_s, after), _REF_FIELDS)
        async with self._connection.calling():
            documents = await found.sort("queued_at").limit(limit).to_list(None)
        return [_ref(document) for document in documents]

    async def confirmed(self, route: Route, limit: int) -> int:
        """See `JobStore.confirmed`: what is queued, from the index, less what is unpublished."""
        first = updates.first_unpublished(route, _MOST_UNPUBLISHED)
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, first, hint="unpublished")
        unpublished, before = 0, None
        if found:
            unpublished = found[0]["of_route"]
            before = found[0]["last"] if found[0]["all"] == _MOST_UNPUBLISHED else None
        count = updates.queued_jobs(route, before, limit + unpublished)
        async with self._connection.calling():
            counted = await self._connection.aggregate(self._jobs, count, hint="backlog")
        return max(counted[0]["count"] - unpublished, 0) if counted else 0

    async def newest_running(self, route: Route) -> float | None:
        """See `JobStore.newest_running`."""
        pipeline = updates.newest_running(route)
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, pipeline, hint="backlog")
        return found[0]["age_ms"] / 1000 if found else None

    async def unpublished(
        self, older_than_s: float, limit: int, without: Collection[Route] = ()
    ) -> Sequence[JobRef]:
        """See `JobStore.unpublished`."""
        found = self._jobs.find(updates.unpublished(older_than_s, without), _REF_FIELDS)
        async with self._connection.calling():
            documents = await found.sort("queued_at").limit(limit).to_list(None)
        return [_ref(document) for document in documents]

    async def queue_due(self, limit: int) -> Sequence[JobRef]:
        """See `JobStore.queue_due`."""
        turn = secrets.token_hex(16)
        moved = await self._move(updates.due(), "not_before", limit, turn, updates.queue(turn))
        return [_ref(document) for document in moved]

    async def rescue(self, limit: int) -> Sequence[Rescue]:
        """See `JobStore.rescue`."""
        turn = secrets.token_hex(16)
        moved = await self._move(updates.lapsed(), "lease.until", limit, turn, updates.rescue(turn))
        return [_rescue(document) for document in moved]

    async def expire(self, limit: int) -> int:
        """See `JobStore.expire`."""
        async with self._connection.calling():
            found = self._jobs.find(updates.overdue(), _WITHOUT_TEXT).limit(limit)
            documents = await found.to_list(None)
        by_error: dict[JobError, list[str]] = defaultdict(list)
        for document in documents:
            by_error[expiry_error(from_document(document))].append(document["_id"])
        expired = 0
        for error, ids in by_error.items():
            async with self._connection.calling():
                done = await self._jobs.update_many(
                    {"_id": {"$in": ids}, **updates.overdue()}, updates.expire(error)
                )
            expired += done.modified_count
        return expired

    async def backlog(self) -> Sequence[Backlog]:
        """See `JobStore.backlog`."""
        key = {"kind": "$kind", "lane": "$lane", "state": "$state"}
        counted = {"_id": key, "count": {"$sum": 1}, "oldest": {"$min": "$queued_at"}}
        pipeline: list[Document] = [{"$match": {"state": {"$in": ACTIVE}}}, {"$group": counted}]
        async with self._connection.calling():
            groups = await self._connection.aggregate(self._jobs, pipeline, hint="backlog")
        return [_backlog(group) for group in groups]

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        """See `JobStore.retry`."""
        condition = updates.retryable(tenant, job_id)
        if generation is not None:
            condition["generation"] = generation
        # More than once only when the job ended before the reason against it could be read.
        for _ in range(_TRIES):
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

    async def prune(self, after: str | None, limit: int) -> Pruned:
        """See `JobStore.prune`."""
        return await self._large.prune(after, limit)

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

    async def _one(self, condition: Document) -> Job | None:
        async with self._connection.calling():
            document = await self._jobs.find_one(condition)
        return None if document is None else from_document(document)

    async def _swap(self, condition: Document, pipeline: updates.Pipeline) -> Job | None:
        """Compare and set one document; the job after it, or None when the condition missed."""
        async with self._connection.calling():
            document = await self._jobs.find_one_and_update(
                condition, pipeline, return_document=ReturnDocument.AFTER
            )
        return None if document is None else from_document(document)

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

    async def _reason_against(self, ref: JobRef, suspects: bool) -> Refused | None:
        pipeline: list[Document] = [
            {"$match": {"_id": ref.id}},
            {"$project": _WITHOUT_TEXT},
            {"$set": {"now": updates.NOW}},
        ]
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, pipeline)
        if not found:
            return Refused(Refusal.UNKNOWN)
        job, now = from_document(found[0]), found[0]["now"]
        reason = refusal(job, ref.generation, now, suspects=suspects)
        return None if reason is None else refused(job, reason)

    async def _finish_large(
        self, job_id: str, token: str, ending: Ending, data: bytes
    ) -> Job | None:
        until = await self._retention_if_endable(job_id, token, ending)
        if until is None:
            return await self._after_missed_end(job_id, token, ending)
        ref = await self._large.write(job_id, token, data, until)
        crashpoint(CrashPoint.WORKER_AFTER_CHUNKS)
        condition = updates.endable(job_id, token, ending)
        ended = await self._swap(condition, updates.end(token, ending, ref))
        if ended is not None:
            return ended
        after = await self._after_missed_end(job_id, token, ending)
        if after is None:
            await self._large.remove(job_id, ref)
        return after

    async def _retention_if_endable(
        self, job_id: str, token: str, ending: Ending
    ) -> datetime | None:
        """When the job would be removed if it ended now; None when this token cannot end it."""
        pipeline: list[Document] = [
            {"$match": updates.endable(job_id, token, ending)},
            {"$project": {"result_ttl_s": 1, "now": updates.NOW}},
        ]
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, pipeline)
        if not found:
            return None
        now: datetime = found[0]["now"]
        return now + timedelta(seconds=found[0]["result_ttl_s"])

    async def _after_missed_end(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """What a missed ending means: done before (the job), lost (None), or not allowed."""
        async with self._connection.calling():
            document = await self._jobs.find_one({"_id": job_id})
        if document is None:
            return None
        if document.get("last_token") == token:
            return from_document(document)
        job = from_document(document)
        if job.lease is not None and job.lease.token == token:
            updates.check_endable(job, ending)
        return None

    async def _move(
        self, condition: Document, order: str, limit: int, turn: str, pipeline: updates.Pipeline
    ) -> Sequence[Document]:
        """Move the first `limit` that meet the condition; those that this very turn moved.

        The condition stands in the update again, so of two loops at once each job goes to one.
        """
        async with self._connection.calling():
            found = self._jobs.find(condition, {"_id": 1}).sort(order).limit(limit)
            ids = [document["_id"] for document in await found.to_list(None)]
        if not ids:
            return []
        chosen = {"_id": {"$in": ids}}
        async with self._connection.calling():
            await self._jobs.update_many({**chosen, **condition}, pipeline)
            return await self._jobs.find({**chosen, "turn": turn}, _MOVED_FIELDS).to_list(None)


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


def _ref(document: Document) -> JobRef:
    return JobRef(
        id=document["_id"],
        generation=document["generation"],
        kind=JobKind(document["kind"]),
        lane=Lane(document["lane"]),
        attempts=document["attempts"],
        traceparent=document.get("traceparent"),
        queued_at=document.get("queued_at"),
    )


def _rescue(document: Document) -> Rescue:
    return Rescue(_ref(document), JobState(document["state"]), document["dead_lettered"])


def _backlog(group: Document) -> Backlog:
    key = group["_id"]
    return Backlog(
        kind=JobKind(key["kind"]),
        lane=Lane(key["lane"]),
        state=JobState(key["state"]),
        count=group["count"],
        oldest=group["oldest"],
    )
