"""Results too large for the job's own record: in chunks, beside it.

Theory of operation. The chunks are written first, under the attempt's token; the pointer to them
goes into the job with the compare-and-set that ends the attempt. Until then nobody can find them,
so a worker that dies in between, or one whose lease was lost, leaves nothing but chunks that no job
names. Those are removed by the loser, or by the TTL index when it died.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bson.binary import Binary

from forebay.jobs import Job, ResultRef
from forebay.store.client import Connection
from forebay.store.indexes import RESULTS

INLINE_BYTES = 256 * 1024
"""A larger result stands beside its job: a record that is claimed, listed and rewritten should stay
small, and must stay under the database's 16 MiB."""

CHUNK_BYTES = 4 * 1024 * 1024
"""One chunk is one write, well inside the time limit of a call."""

OUTLIVES_JOB = timedelta(minutes=10)
"""Chunks are dated when they are written, a little before their job ends; they must not go first.
Ten minutes is far beyond the time that writing and ending can take under one lease."""


class LargeResults:
    """Writes, reads and removes large results."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunks = connection.collection(RESULTS)

    async def write(self, job_id: str, token: str, data: bytes, until: datetime) -> ResultRef:
        """Store the chunks; safe to repeat. `until` is when the job would be removed."""
        parts = range(0, len(data), CHUNK_BYTES)
        for n, start in enumerate(parts):
            chunk = {
                "_id": _chunk_id(job_id, token, n),
                "job": job_id,
                "data": Binary(data[start : start + CHUNK_BYTES]),
                "expires_at": until + OUTLIVES_JOB,
            }
            async with self._connection.calling():
                await self._chunks.replace_one({"_id": chunk["_id"]}, chunk, upsert=True)
        return ResultRef(token, len(parts), len(data))

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


def _chunk_id(job_id: str, token: str, n: int) -> str:
    return f"{job_id}/{token}/{n}"
