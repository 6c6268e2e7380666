"""Results too large for the job's own record: in chunks, beside it.

Theory of operation. The chunks are written first, under the attempt's token; the pointer to them
goes into the job with the compare-and-set that ends the attempt. Until then nobody can find them,
so a worker that dies in between, or one whose lease was lost, leaves nothing but chunks that no job
names. So does a job with a large result that is retried by hand. They are removed by the loser
itself, or by the pruner, or at last by the TTL index.

Why the pruner never removes what is wanted. From before the first chunk of a token is written until
its job points to it, the job is leased under that token; the end of the attempt swaps the lease for
the pointer in one update. A token belongs to one claim, which writes nothing before it knows that
it holds the lease: a job that is neither leased under a token with chunks nor points to it has lost
it for ever. The chunks are read first and their jobs after them, so

- a chunk that is written later is not looked at in this step;
- an attempt that ends between the two reads is found by its pointer, one that lost its lease is an
  orphan already, whatever its worker still tries: the compare-and-set refuses it;
- a lease that ran out and was not taken back yet still counts, because its holder may still end it;
- a job that is retried after the read gives up more, and wants nothing that it had given up;
- two pruners at once remove the same chunks, and each removal is counted once;
- a dead or deposed primary cannot turn the order round: both reads see what a majority has, and a
  driver that has seen a newer primary does not go back to an older one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from bson.binary import Binary

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.jobs import Job, ResultRef
from forebay.store import Pruned
from forebay.store.client import Connection
from forebay.store.documents import Document
from forebay.store.indexes import JOBS, RESULTS

INLINE_BYTES = 256 * 1024
"""A larger result stands beside its job: a record that is claimed, listed and rewritten should stay
small, and must stay under the database's 16 MiB."""

CHUNK_BYTES = 1024 * 1024
"""One chunk is one write: inside the time limit of a call, 2.5 s, on a link of 4 Mbit/s too."""

OUTLIVES_JOB = timedelta(minutes=10)
"""Chunks are dated when they are written, a little before their job ends; they must not go first.
Ten minutes is far beyond the time that writing and ending can take under one lease."""


class LargeResults:
    """Writes, reads and removes large results."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs = connection.collection(JOBS)
        self._chunks = connection.collection(RESULTS)

    async def write(self, job_id: str, token: str, data: bytes, until: datetime) -> ResultRef:
        """Store the chunks; safe to repeat. `until` is when the job would be removed.

        A repeat goes on where the last try failed, or a slow link would never take them all.
        """
        starts = {
            _chunk_id(job_id, token, n): start
            for n, start in enumerate(range(0, len(data), CHUNK_BYTES))
        }
        expires_at = until + OUTLIVES_JOB
        there = await self._written(starts, expires_at)
        for chunk_id, start in starts.items():
            if chunk_id in there:
                continue
            chunk = {
                "_id": chunk_id,
                "job": job_id,
                "data": Binary(data[start : start + CHUNK_BYTES]),
                "expires_at": expires_at,
            }
            async with self._connection.calling():
                await self._chunks.replace_one({"_id": chunk_id}, chunk, upsert=True)
        return ResultRef(token, len(starts), len(data))

    async def _written(self, ids: Collection[str], expires_at: datetime) -> frozenset[str]:
        """Which of the chunks an earlier try wrote, dated anew; a token has one result only."""
        chosen = {"_id": {"$in": [*ids]}}
        async with self._connection.calling():
            dated = await self._chunks.update_many(chosen, {"$set": {"expires_at": expires_at}})
            if dated.matched_count == 0:
                return frozenset()
            found = await self._chunks.find(chosen, {"_id": 1}).to_list(None)
        return frozenset(chunk["_id"] for chunk in found)

    async def read(self, job: Job) -> str | None:
        """The whole text; None when it is not there (any more)."""
        ref = job.result_ref
        if ref is None:
            return None
        data = bytearray()
        for n in range(ref.chunks):
            async with self._connection.calling():
                chunk = await self._chunks.find_one({"_id": _chunk_id(job.id, ref.token, n)})
            if chunk is None:
                return None
            data += chunk["data"]
        return data.decode()

    async def remove(self, job_id: str, ref: ResultRef) -> None:
        """Remove what no job points to."""
        ids = [_chunk_id(job_id, ref.token, n) for n in range(ref.chunks)]
        async with self._connection.calling():
            await self._chunks.delete_many({"_id": {"$in": ids}})

    async def prune(self, after: str | None, limit: int) -> Pruned:
        """See `JobStore.prune`. Reads ids from the index alone, never the chunks themselves."""
        ids = await self._ids(after, limit)
        orphans = await self._orphans(ids)
        reached = ids[-1] if len(ids) == limit else None
        if not orphans:
            return Pruned(0, reached)
        crashpoint(CrashPoint.PRUNER_AFTER_LOOK)
        async with self._connection.calling():
            done = await self._chunks.delete_many({"_id": {"$in": orphans}})
        return Pruned(done.deleted_count, reached)

    async def _ids(self, after: str | None, limit: int) -> list[str]:
        found = self._chunks.find({"_id": {"$gt": after or ""}}, {"_id": 1}).sort("_id")
        async with self._connection.calling():
            return [chunk["_id"] for chunk in await found.limit(limit).to_list(None)]

    async def _orphans(self, ids: Sequence[str]) -> list[str]:
        """Those of the chunks whose job is there and does not want them."""
        names = [(chunk_id, *chunk_id.split("/")[:2]) for chunk_id in ids]
        condition = {"_id": {"$in": sorted({job_id for _, job_id, _ in names})}}
        found = self._jobs.find(condition, {"lease.token": 1, "result_ref.token": 1})
        async with self._connection.calling():
            wanted = {job["_id"]: _tokens(job) for job in await found.to_list(None)}
        return [
            chunk_id
            for chunk_id, job_id, token in names
            if job_id in wanted and token not in wanted[job_id]
        ]


def _tokens(job: Document) -> list[str]:
    """Under which tokens a large result of the job may be wanted."""
    return [job[name]["token"] for name in ("lease", "result_ref") if name in job]


def _chunk_id(job_id: str, token: str, n: int) -> str:
    return f"{job_id}/{token}/{n}"
