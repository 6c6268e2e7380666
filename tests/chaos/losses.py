"""What the broker had confirmed and lost, and how long it takes to be there again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from forebay.jobs import JobKind, JobState
from forebay.testing.polling import pace, until

from .broker_hands import submit, waiting_in_broker
from .own_jobs import jobs_of
from .report import Row
from .scene import Scene

REFILLED_WITHIN_S = 60.0


@dataclass
class Lost:
    """Jobs whose messages the broker lost, until each has another one."""

    ids: set[str]
    since: datetime
    """The store's time of the loss."""
    began: float = field(default_factory=time.monotonic)
    back_s: list[float] = field(default_factory=list)
    """How long each took to be published again, or to be claimed all the same."""

    async def all_back(self, here: Scene) -> bool:
        """Look once; True when none is left."""
        for job in (await jobs_of(here, self.ids)).values():
            again = job.published_at is not None and job.published_at > self.since
            if again or job.state is not JobState.QUEUED:
                self.ids.discard(job.id)
                self.back_s.append(time.monotonic() - self.began)
        return not self.ids


@asynccontextmanager
async def overload(here: Scene, per_second: float, latency_s: float) -> AsyncIterator[set[str]]:
    """Submit slow searches meanwhile; the ids of those that were accepted so far."""
    ids: set[str] = set()
    enough = asyncio.Event()

    async def one() -> None:
        ids.add(await submit(here, JobKind.SEARCH, latency_s=latency_s))

    async def submit_all() -> None:
        async with asyncio.TaskGroup() as group:
            async for _ in pace(per_second, 10_000_000):
                if enough.is_set():
                    return
                group.create_task(one())

    submitting = asyncio.create_task(submit_all())
    try:
        yield ids
    finally:
        enough.set()
        await submitting


async def lose(here: Scene, row: Row, ids: set[str], wipe: Callable[[], Awaitable[object]]) -> None:
    """Have the broker lose what waits; return when all of it is in a queue again."""
    lost = Lost(await waiting_in_broker(here, ids), since=datetime.now(UTC))
    row.figures["messages_lost"] = len(lost.ids)
    row.injected += bool(lost.ids)
    await wipe()

    async def all_back() -> bool:
        return await lost.all_back(here)

    await until(all_back, REFILLED_WITHIN_S)
    row.figures["refilled_s_max"] = round(max(lost.back_s), 1)
    assert max(lost.back_s) < REFILLED_WITHIN_S
