"""A worker's queries: claim, renew, finish."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.jobs import Job, JobState
from forebay.store import Claimed, Ending, JobRef, Refusal, Refused, Renewal, updates
from forebay.store.documents import Document, from_document, utf8
from forebay.store.expressions import NOW
from forebay.store.mongo.base import TRIES, WITHOUT_TEXT, Queries
from forebay.store.refusals import refusal, refused
from forebay.store.results import INLINE_BYTES


class Claims(Queries):
    """What a worker asks."""

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
        for _ in range(TRIES):
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

    async def asked_to_stop(self, job_ids: Collection[str]) -> frozenset[str]:
        """See `JobStore.asked_to_stop`."""
        if not job_ids:
            return frozenset()
        condition = {"_id": {"$in": [*job_ids]}, "state": JobState.CANCELING.value}
        async with self._connection.calling():
            found = await self._jobs.find(condition, {"_id": 1}).to_list(None)
        return frozenset(document["_id"] for document in found)

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

    async def _reason_against(self, ref: JobRef, suspects: bool) -> Refused | None:
        pipeline: list[Document] = [
            {"$match": {"_id": ref.id}},
            {"$project": WITHOUT_TEXT},
            {"$set": {"now": NOW}},
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
            {"$project": {"result_ttl_s": 1, "now": NOW}},
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
