"""Many accepts, one write: the group commit.

Theory of operation. A caller appends its job with a future and rings a doorbell. One flusher takes
everything that is pending, inserts it in one round trip, resolves the futures, and looks again.
There is no timer: at low load a batch is one job and waits for nothing; under load the batch grows
by itself while the previous one is being written.

An accept once begun ends: a caller that is canceled leaves, its job is stored all the same. A batch
that fails fails its own futures only. What waits is bounded, by count, bytes and time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.errors import StoreError, StoreOverloaded, StoreUnavailable
from forebay.jobs import Job
from forebay.store import InsertResult, JobStore
from forebay.store.documents import utf8

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """How much may wait for a batch; beyond it an accept is refused at once."""

    jobs: int = 10_000
    bytes: int = 128 * MIB
    wait_s: float = 1.0
    """An accept that waited longer than this for its batch to begin is refused: the store stands
    still, and its callers should hear so about one call's time limit later, not many."""


@dataclass(frozen=True, slots=True)
class _Accept:
    job: Job
    size: int
    began: float
    answer: asyncio.Future[InsertResult]


class GroupCommit:
    """Inserts jobs in batches; `async with` starts the flusher and, at the end, drains it."""

    def __init__(
        self,
        store: JobStore,
        *,
        max_jobs: int = 500,
        max_bytes: int = 8 * MIB,
        limits: PendingLimits = PendingLimits(),
    ) -> None:
        self._store = store
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._limits = limits
        self._pending: deque[_Accept] = deque()
        self._pending_bytes = 0
        self._doorbell = asyncio.Event()
        self._closing = False
        self._flusher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the flusher."""
        self._flusher = asyncio.create_task(self._flush_forever(), name="group-commit")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more, end what was begun."""
        self._closing = True
        self._doorbell.set()
        if self._flusher is not None:
            await self._flusher

    @property
    def pending(self) -> int:
        """How many accepts wait for a batch."""
        return len(self._pending)

    async def insert(self, job: Job) -> InsertResult:
        """Store one job with whatever else is pending.

        Raises `StoreOverloaded` (nothing was written), `StoreUnavailable` (it may have been; the
        same job can be inserted again), `Unstorable`.
        """
        size = len(utf8(job.input)) + len(utf8(job.metadata))
        if self._closing or self._is_full(size):
            raise StoreOverloaded
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[InsertResult] = loop.create_future()
        # A caller that left does not ask for the error; reading it here keeps the loop silent.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.append(_Accept(job, size, loop.time(), answer))
        self._pending_bytes += size
        self._doorbell.set()
        return await asyncio.shield(answer)

    def _is_full(self, size: int) -> bool:
        too_many = len(self._pending) >= self._limits.jobs
        return too_many or self._pending_bytes + size > self._limits.bytes

    async def _flush_forever(self) -> None:
        try:
            await self._flush_until_closed()
        finally:
            # Only a flusher that was canceled leaves any; nobody must wait for it for ever.
            for accept in self._pending:
                accept.answer.set_exception(StoreOverloaded())

    async def _flush_until_closed(self) -> None:
        while self._pending or not self._closing:
            if not self._pending:
                self._doorbell.clear()
                await self._doorbell.wait()
                continue
            batch = self._take()
            try:
                await self._commit(batch)
            except Exception as defect:  # noqa: BLE001  nobody else would notice that it ended
                _fail(batch, defect)

    def _take(self) -> Sequence[_Accept]:
        """The next batch, oldest first; what waited too long is refused on the way."""
        batch: list[_Accept] = []
        size = 0
        too_old = asyncio.get_running_loop().time() - self._limits.wait_s
        while self._pending and len(batch) < self._max_jobs:
            accept = self._pending[0]
            if batch and size + accept.size > self._max_bytes:
                break
            self._pending.popleft()
            self._pending_bytes -= accept.size
            if accept.began < too_old:
                accept.answer.set_exception(StoreOverloaded())
                continue
            batch.append(accept)
            size += accept.size
        return batch

    async def _commit(self, batch: Sequence[_Accept]) -> None:
        if not batch:
            return
        crashpoint(CrashPoint.INGRESS_BEFORE_INSERT)
        try:
            results = await self._store.insert([accept.job for accept in batch])
        except StoreUnavailable as away:
            _fail(batch, away)
        except asyncio.CancelledError:
            _fail(batch, StoreUnavailable())
            raise
        except Exception as refused:  # noqa: BLE001  the flusher outlives any job
            await self._commit_apart(batch, refused)
        else:
            crashpoint(CrashPoint.INGRESS_AFTER_INSERT)
            for accept, result in zip(batch, results, strict=True):
                accept.answer.set_result(result)

    async def _commit_apart(self, batch: Sequence[_Accept], refused: Exception) -> None:
        """One job that cannot be stored must not fail the others: each goes alone."""
        if len(batch) == 1:
            _fail(batch, refused)
            return
        for accept in batch:
            await self._commit([accept])


def _fail(batch: Sequence[_Accept], reason: Exception) -> None:
    """Each caller gets an error of its own: a shared one would collect every caller's traceback."""
    for accept in batch:
        if accept.answer.done():
            continue
        own = type(reason)(str(reason)) if isinstance(reason, StoreError) else reason
        own.__cause__ = reason.__cause__
        accept.answer.set_exception(own)
