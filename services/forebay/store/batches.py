"""Where batches live. Their jobs are in the `JobStore`, each on its own."""

from __future__ import annotations

from typing import Protocol

from forebay.batches import Batch


class BatchStore(Protocol):
    """The records of batches. Raises `StoreUnavailable` as `JobStore` does; safe to repeat."""

    async def open(self, batch: Batch) -> Batch:
        """Store a new batch; the one that the tenant opened under the same key, if there is one.

        Durable as a job is. Its jobs come after it: a batch without its jobs was not accepted.
        """

    async def complete(self, batch_id: str) -> None:
        """All its jobs are stored."""

    async def get(self, tenant: str, batch_id: str) -> Batch | None:
        """The batch; None for another tenant's too."""

    async def find_by_key(self, tenant: str, key: str) -> Batch | None:
        """The batch that this tenant opened under this idempotency key."""


class MemoryBatchStore:
    """`BatchStore` without a database."""

    def __init__(self) -> None:
        self._batches: dict[str, Batch] = {}

    async def open(self, batch: Batch) -> Batch:
        """See `BatchStore.open`."""
        for there in self._batches.values():
            if there.id == batch.id or _is_same(there, batch):
                return there
        self._batches[batch.id] = batch
        return batch

    async def complete(self, batch_id: str) -> None:
        """See `BatchStore.complete`."""
        self._batches[batch_id] = self._batches[batch_id].evolve(complete=True)

    async def get(self, tenant: str, batch_id: str) -> Batch | None:
        """See `BatchStore.get`."""
        batch = self._batches.get(batch_id)
        return batch if batch is not None and batch.tenant == tenant else None

    async def find_by_key(self, tenant: str, key: str) -> Batch | None:
        """See `BatchStore.find_by_key`."""
        for one in self._batches.values():
            known = one.idempotency
            if one.tenant == tenant and known is not None and known.key == key:
                return one
        return None


def _is_same(there: Batch, batch: Batch) -> bool:
    if there.idempotency is None or batch.idempotency is None:
        return False
    same_key = there.idempotency.key == batch.idempotency.key
    return same_key and there.tenant == batch.tenant
