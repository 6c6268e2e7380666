"""A batch: jobs that were submitted, or run again, together. No I/O, like `forebay.jobs`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from forebay.jobs import Idempotency

MOST_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class BatchJobs:
    """Which jobs a batch has: by its id, or one by one."""

    batch_id: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedItem:
    """An item that could not become a job."""

    index: int
    """Its place in the batch, from 0."""
    problem: str
    """Why not: the problem document, JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch; its jobs live on their own and are counted when somebody asks."""

    id: str
    """`batch_` and the hex of a UUIDv7."""
    tenant: str
    created_at: datetime
    total: int
    """Items that were sent."""
    accepted: int
    """Items that became jobs."""
    metadata: str = "{}"
    """The caller's own object, JSON text."""
    rejected: tuple[RejectedItem, ...] = ()
    members: tuple[str, ...] = ()
    """The jobs, where they are not jobs of this batch by birth: they were run again together."""
    idempotency: Idempotency | None = None
    complete: bool = False
    """All its jobs are stored. One that is not was never answered 202: a repeat completes it."""

    @property
    def jobs(self) -> BatchJobs:
        """How its jobs are found."""
        return BatchJobs(self.id, self.members)

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)


def item_id(batch: Batch, index: int) -> str:
    """The id of the job that one item becomes: the same however often the batch is inserted.

    A UUIDv7 in form (RFC 9562, 5.7): the time of the batch, then the index, so that ids sort as the
    items do, then bits that nobody can guess who does not know the batch.
    """
    time = batch.id.removeprefix("batch_")[:12]
    seed = hashlib.sha256(f"{batch.id}/{index}".encode()).hexdigest()
    # 12 bits after the version and 12 after the variant's hex digit hold the index.
    high, low = divmod(index, 4096)
    return f"job_{time}7{high:03x}8{low:03x}{seed[:12]}"
