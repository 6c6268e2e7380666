"""The records of batches on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError

from forebay.batches import Batch, RejectedItem
from forebay.jobs import Idempotency
from forebay.store.client import Connection
from forebay.store.documents import Document
from forebay.store.indexes import BATCHES

KEPT = timedelta(days=90)
"""How long the record of a batch is kept; its jobs have retentions of their own."""


class MongoBatchStore:
    """`BatchStore` on a MongoDB replica set."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches = connection.collection(BATCHES)

    async def open(self, batch: Batch) -> Batch:
        """See `BatchStore.open`."""
        async with self._connection.calling():
            try:
                await self._batches.insert_one(_document(batch))
            except DuplicateKeyError:
                return await self._there(batch)
        return batch

    async def complete(self, batch_id: str) -> None:
        """See `BatchStore.complete`."""
        async with self._connection.calling():
            await self._batches.update_one({"_id": batch_id}, {"$set": {"complete": True}})

    async def get(self, tenant: str, batch_id: str) -> Batch | None:
        """See `BatchStore.get`."""
        async with self._connection.calling():
            document = await self._batches.find_one({"_id": batch_id, "tenant": tenant})
        return None if document is None else _batch(document)

    async def find_by_key(self, tenant: str, key: str) -> Batch | None:
        """See `BatchStore.find_by_key`."""
        async with self._connection.calling():
            document = await self._batches.find_one({"tenant": tenant, **_under(key)})
        return None if document is None else _batch(document)

    async def _there(self, batch: Batch) -> Batch:
        same: list[Document] = [{"_id": batch.id}]
        if batch.idempotency is not None:
            same.append({"tenant": batch.tenant, **_under(batch.idempotency.key)})
        document = await self._batches.find_one({"$or": same})
        return batch if document is None else _batch(document)


def _under(key: str) -> Document:
    # `$type` says what the partial index is about; without it the planner will not use it.
    return {"idempotency.key": {"$eq": key, "$type": "string"}}


def _document(batch: Batch) -> Document:
    return {
        "_id": batch.id,
        "tenant": batch.tenant,
        "created_at": batch.created_at,
        "total": batch.total,
        "accepted": batch.accepted,
        "metadata": batch.metadata,
        "rejected": [asdict(one) for one in batch.rejected],
        "members": [*batch.members],
        "complete": batch.complete,
        "expires_at": batch.created_at + KEPT,
        **({} if batch.idempotency is None else {"idempotency": asdict(batch.idempotency)}),
    }


def _batch(document: Mapping[str, Any]) -> Batch:
    key = document.get("idempotency")
    return Batch(
        id=document["_id"],
        tenant=document["tenant"],
        created_at=document["created_at"],
        total=document["total"],
        accepted=document["accepted"],
        metadata=document["metadata"],
        rejected=tuple(RejectedItem(**one) for one in document["rejected"]),
        members=tuple(document["members"]),
        complete=document["complete"],
        idempotency=None if key is None else Idempotency(**key),
    )
