"""Many accepts, one write: the group commit.

Theory of operation. A caller appends its job with a future and rings a doorbell. One flusher takes
everything that is pending, inserts it in one round trip, resolves the futures, and looks again.
There is no timer: at low load a batch is one job and waits for nothing; under load the batch grows
by itself while the previous one is being written.

An accept once begun ends: a caller that is canceled leaves, its job is stored all the same. A batch
that fails fails its own futures only. What waits is bounded, by count, bytes and time.

Who cannot be answered in time any more is refused before anything is written. Otherwise a crowd
that comes back after an outage, larger than what is written in a second, would have every job
written and none of its callers answered, for as long as they come back. For the same reason how
much goes into a write follows how long the last ones took, and while they take all the time there
is, who comes is refused at once.
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
from forebay.tasks import canceled

MIB = 1024 * 1024
_ALWAYS_LEFT = 0.1
"""Of the time for an answer: so long an accept may wait, however slow the last write was."""


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """How much may wait for a batch; beyond it an accept is refused at once."""

    jobs: int = 10_000
    bytes: int = 128 * MIB
    answer_within_s: float = 2.5
    """How long a caller waits for its answer, the write of its batch included. An accept that has
    not that much time left when its batch would begin is refused."""


class _Pace:
    """What the next write may take, and how many jobs may go into it, by what the last ones took.

    Args:
        answer_within_s: how long a caller waits for its answer.
        most: jobs in one write.
    """

    MARGIN, FADING = 1.2, 0.8
    TOO_LONG = 0.5
    """Of the time for an answer: a write that takes longer leaves too little for who waits."""
    LEAST = 32
    """Jobs in one write: a store that is far away takes as long for fewer."""

    def __init__(self, answer_within_s: float, most: int) -> None:
        self.expected_s = 0.0
        self.jobs = most
        self._answer_within_s = answer_within_s
        self._most = most

    def note(self, took_s: float, jobs: int) -> None:
        """A write of so many took so long, whatever came of it."""
        self.expected_s = max(took_s * self.MARGIN, self.expected_s * self.FADING)
        if took_s > self._answer_within_s * self.TOO_LONG:
            self.jobs = min(max(jobs // 2, self.LEAST), self.jobs)
        else:
            self.jobs = min(max(self.jobs, 2 * jobs), self._most)


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
        self._max_bytes = max_bytes
        self._limits = limits
        self._pace = _Pace(limits.answer_within_s, max_jobs)
        self._writing = False
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
        if self._is_hopeless():
            raise StoreUnavailable("the last writes took too long")
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

    def _is_hopeless(self) -> bool:
        """Whether the write under way is likely to take all the time there is, as the last did.

        Who is refused at once comes back as soon; a crowd that is let wait is refused in one
        moment, and the last of it hears so long after its time.
        """
        return self._writing and self._pace.expected_s >= self._limits.answer_within_s

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
            if batch := self._take():
                await self._write(batch)

    async def _write(self, batch: Sequence[_Accept]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._writing = True
        try:
            await self._commit(batch)
        except Exception as defect:  # noqa: BLE001  nobody else would notice that it ended
            _fail(batch, defect)
        finally:
            self._writing = False
        self._pace.note(loop.time() - began, len(batch))

    def _take(self) -> Sequence[_Accept]:
        """The next batch, oldest first; what would be answered too late is refused on the way."""
        batch: list[_Accept] = []
        size = 0
        limit_s = self._limits.answer_within_s
        # Some time is always left, or nobody would ever see that the store is quick again.
        may_wait_s = max(limit_s - self._pace.expected_s, limit_s * _ALWAYS_LEFT)
        too_old = asyncio.get_running_loop().time() - may_wait_s
        while self._pending and len(batch) < self._pace.jobs:
            accept = self._pending[0]
            if batch and size + accept.size > self._max_bytes:
                break
            self._pending.popleft()
            self._pending_bytes -= accept.size
            if accept.began < too_old:
                accept.answer.set_exception(StoreUnavailable("the writes before took too long"))
                continue
            batch.append(accept)
            size += accept.size
        return batch

    async def _commit(self, batch: Sequence[_Accept]) -> bool:
        """Write it; False when the store is away."""
        crashpoint(CrashPoint.INGRESS_BEFORE_INSERT)
        try:
            results = await self._store.insert([accept.job for accept in batch])
        except StoreUnavailable as away:
            _fail(batch, away)
            return False
        except asyncio.CancelledError:
            _fail(batch, StoreUnavailable())
            if canceled():
                raise
            # Some library's own: were it to end the flusher, no accept would ever be answered.
            return False
        except Exception as refused:  # noqa: BLE001  the flusher outlives any job
            return await self._commit_apart(batch, refused)
        crashpoint(CrashPoint.INGRESS_AFTER_INSERT)
        for accept, result in zip(batch, results, strict=True):
            accept.answer.set_result(result)
        return True

    async def _commit_apart(self, batch: Sequence[_Accept], refused: Exception) -> bool:
        """One job that cannot be stored must not fail the others: it is found by halving."""
        if len(batch) == 1:
            _fail(batch, refused)
            return True
        middle = len(batch) // 2
        if not await self._commit(batch[:middle]):
            # The store went away: the rest would wait for it once for each half.
            _fail(batch[middle:], StoreUnavailable())
            return False
        return await self._commit(batch[middle:])


def _fail(batch: Sequence[_Accept], reason: Exception) -> None:
    """Each caller gets an error of its own: a shared one would collect every caller's traceback."""
    for accept in batch:
        if accept.answer.done():
            continue
        own = type(reason)(str(reason)) if isinstance(reason, StoreError) else reason
        own.__cause__ = reason.__cause__
        accept.answer.set_exception(own)
