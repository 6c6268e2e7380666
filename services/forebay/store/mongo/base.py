"""What all queries share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pymongo import ReturnDocument

from forebay.jobs import Job, JobKind, Lane
from forebay.store import JobRef, updates
from forebay.store.client import Connection
from forebay.store.documents import Document, from_document
from forebay.store.indexes import JOBS, RESULTS
from forebay.store.results import LargeResults

TRIES = 3
"""Of a compare-and-set that missed: more than one only when the reason went away meanwhile."""
WITHOUT_TEXT = {"input": 0, "result": 0}
REF_FIELDS = dict.fromkeys(
    ("generation", "kind", "lane", "attempts", "traceparent", "queued_at"), 1
)
_MOVED_FIELDS = {**REF_FIELDS, "state": 1, "dead_lettered": 1}


class Queries:
    """On one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs = connection.collection(JOBS)
        self._results = connection.collection(RESULTS)
        self._large = LargeResults(connection)

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

    async def _changed(
        self, ids: Collection[str], condition: Document, pipeline: updates.Pipeline, turn: str
    ) -> Sequence[Document]:
        """Change those of these jobs that meet the condition; those that this very turn changed."""
        chosen = {"_id": {"$in": [*ids]}}
        async with self._connection.calling():
            await self._jobs.update_many({**chosen, **condition}, pipeline)
            return await self._jobs.find({**chosen, "turn": turn}, _MOVED_FIELDS).to_list(None)


def ref_of(document: Document) -> JobRef:
    """The reference in a document of `REF_FIELDS`."""
    return JobRef(
        id=document["_id"],
        generation=document["generation"],
        kind=JobKind(document["kind"]),
        lane=Lane(document["lane"]),
        attempts=document["attempts"],
        traceparent=document.get("traceparent"),
        queued_at=document.get("queued_at"),
    )
