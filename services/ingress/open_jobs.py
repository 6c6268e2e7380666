"""How many jobs of a key may be open at a time.

Theory of operation. The store counts, by an index, the jobs of a key that are not terminal. The
count is believed for half a second; what this process accepts meanwhile is added to it.

Limits. One replica never lets in more than the quota. Several may together, by what the others
accept in half a second; the next count shows it, and nothing more is let in until jobs end. That a
job ended is seen as late. A job that is run again by hand counts, but is not refused for it: it was
accepted before.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from forebay.keys import ApiKey
from forebay.store import JobStore
from ingress.body import validation_error
from ingress.problems import InvalidPart, ProblemCode, RequestRefused
from ingress.single_flight import SingleFlight

COUNT_WITHIN_S = 1.0
BELIEVED_S = 0.5
MOST_COUNTS = 10_000


@dataclass(slots=True)
class _Count:
    """What is known of one key's open jobs."""

    counted: int = 0
    counted_at: float = float("-inf")
    settled: int = 0
    """Accepted here since the count began; it may have seen them or not."""
    in_flight: int = 0
    """Being accepted here now."""

    @property
    def most(self) -> int:
        """As many as there can be, as far as this process knows."""
        return self.counted + self.settled + self.in_flight


class OpenJobs:
    """Lets a key have so many jobs that are not done."""

    def __init__(self, store: JobStore, *, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._counting: SingleFlight[None] = SingleFlight(COUNT_WITHIN_S)

    @asynccontextmanager
    async def room(self, key: ApiKey | None, jobs: int = 1) -> AsyncIterator[None]:
        """Within it so many jobs may be accepted; raises `RequestRefused`, `StoreUnavailable`."""
        if key is None or key.quota.open_jobs is None:
            yield
            return
        limit = key.quota.open_jobs
        if jobs > limit:
            raise _never_fit(limit, jobs)
        count = self._count_of(key.id)
        if self._clock() - count.counted_at >= BELIEVED_S:
            await self._counting.answer(key.id, lambda: self._recount(key.id, count, limit))
        if count.most + jobs > limit:
            raise _refused(limit)
        count.in_flight += jobs
        try:
            yield
        finally:
            count.in_flight -= jobs
            count.settled += jobs

    def _count_of(self, key_id: str) -> _Count:
        count = self._counts.setdefault(key_id, _Count())
        self._counts.move_to_end(key_id)
        if len(self._counts) > MOST_COUNTS:
            self._counts.popitem(last=False)
        return count

    async def _recount(self, key_id: str, count: _Count, limit: int) -> None:
        began, before = self._clock(), count.settled
        count.counted = await self._store.count_open(key_id, limit)
        count.counted_at = began
        # What was stored before the count began is in it.
        count.settled -= before


def _never_fit(limit: int, jobs: int) -> RequestRefused:
    # Not 429: whoever is told to come back later would send the same again, and for ever.
    detail = f"These are {jobs} jobs, and the API key may have {limit} that are not done"
    said = f"{detail}: they never fit; send fewer at once"
    return validation_error([InvalidPart(pointer="", detail=said)])


def _refused(limit: int) -> RequestRefused:
    # Jitter, so that all who are refused together do not return together.
    seconds = 1 + int(random.random() * 4)  # noqa: S311 - spreads load, guards nothing
    return RequestRefused(
        ProblemCode.QUOTA_EXCEEDED,
        f"This API key may have {limit} jobs that are not done; no new job was accepted. "
        f"Wait for the end of some, or cancel them. Try again in {seconds} s.",
        retry_after_s=seconds,
    )
