"""The queries of publishers and the reconciler: what is published, due, lost, late, left over."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from pymongo import UpdateOne

from forebay.errors import JobError
from forebay.jobs import Job, JobKind, JobState, Lane, expiry_error
from forebay.store import Backlog, JobRef, Pruned, Rescue, Route, selections, updates
from forebay.store.documents import Document, from_document
from forebay.store.indexes import ACTIVE
from forebay.store.mongo.base import REF_FIELDS, WITHOUT_TEXT, Queries, ref_of

_MOST_UNPUBLISHED = 10_000
"""Unpublished jobs read to say how many are confirmed. An ingress and the relay leave fewer."""


class Upkeep(Queries):
    """What those ask who keep the jobs moving."""

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
        found = self._jobs.find(selections.unclaimed(route, older_than_s, after), REF_FIELDS)
        async with self._connection.calling():
            documents = await found.sort("queued_at").limit(limit).to_list(None)
        return [ref_of(document) for document in documents]

    async def confirmed(self, route: Route, limit: int) -> int:
        """See `JobStore.confirmed`: what is queued, from the index, less what is unpublished."""
        first = selections.first_unpublished(route, _MOST_UNPUBLISHED)
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, first, hint="unpublished")
        unpublished, before = 0, None
        if found:
            unpublished = found[0]["of_route"]
            before = found[0]["last"] if found[0]["all"] == _MOST_UNPUBLISHED else None
        count = selections.queued_jobs(route, before, limit + unpublished)
        async with self._connection.calling():
            counted = await self._connection.aggregate(self._jobs, count, hint="backlog")
        return max(counted[0]["count"] - unpublished, 0) if counted else 0

    async def newest_running(self, route: Route) -> float | None:
        """See `JobStore.newest_running`."""
        pipeline = selections.newest_running(route)
        async with self._connection.calling():
            found = await self._connection.aggregate(self._jobs, pipeline, hint="backlog")
        return found[0]["age_ms"] / 1000 if found else None

    async def unpublished(
        self, older_than_s: float, limit: int, without: Collection[Route] = ()
    ) -> Sequence[JobRef]:
        """See `JobStore.unpublished`."""
        found = self._jobs.find(updates.unpublished(older_than_s, without), REF_FIELDS)
        async with self._connection.calling():
            documents = await found.sort("queued_at").limit(limit).to_list(None)
        return [ref_of(document) for document in documents]

    async def queue_due(self, limit: int) -> Sequence[JobRef]:
        """See `JobStore.queue_due`."""
        turn = secrets.token_hex(16)
        moved = await self._move(updates.due(), "not_before", limit, turn, updates.queue(turn))
        return [ref_of(document) for document in moved]

    async def rescue(self, limit: int) -> Sequence[Rescue]:
        """See `JobStore.rescue`."""
        turn = secrets.token_hex(16)
        moved = await self._move(updates.lapsed(), "lease.until", limit, turn, updates.rescue(turn))
        return [_rescue(document) for document in moved]

    async def expire(self, limit: int) -> int:
        """See `JobStore.expire`."""
        async with self._connection.calling():
            found = self._jobs.find(updates.overdue(), WITHOUT_TEXT).limit(limit)
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

    async def untold(self, older_than_s: float, limit: int) -> Sequence[Job]:
        """See `JobStore.untold`."""
        found = self._jobs.find(updates.untold(older_than_s), WITHOUT_TEXT)
        async with self._connection.calling():
            documents = await found.sort("untold.at").limit(limit).to_list(None)
        return [from_document(document) for document in documents]

    async def told(self, job_id: str, generation: int) -> None:
        """See `JobStore.told`."""
        done = {"$pull": {"untold": {"generation": generation}}}
        async with self._connection.calling():
            await self._jobs.update_one({"_id": job_id}, done)

    async def prune(self, after: str | None, limit: int) -> Pruned:
        """See `JobStore.prune`."""
        return await self._large.prune(after, limit)

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
        return await self._changed(ids, condition, pipeline, turn)


def _rescue(document: Document) -> Rescue:
    return Rescue(ref_of(document), JobState(document["state"]), document["dead_lettered"])


def _backlog(group: Document) -> Backlog:
    key = group["_id"]
    return Backlog(
        kind=JobKind(key["kind"]),
        lane=Lane(key["lane"]),
        state=JobState(key["state"]),
        count=group["count"],
        oldest=group["oldest"],
    )
