from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from forebay.errors import StoreUnavailable
from forebay.jobs import JobKind, JobState, Lane
from forebay.pace import Route
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.memory import MemoryJobStore
from forebay.store.paces import MemoryPaceStore
from forebay.testing.live import FakeLive
from forebay.webhooks.notifier import Notifier
from forebay.worker.tally import Tally
from forebay.worker.telling import Telling
from tests.jobs_by_hand import running_job

LOGGER: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])


class Faulty(MemoryPaceStore):
    """Away for its first calls."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away
        self.added = asyncio.Event()

    async def add_ended(self, ended: Mapping[Route, int]) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable
        await super().add_ended(ended)
        self.added.set()


async def test_each_job_that_has_its_end_is_counted_once_also_while_the_store_is_away() -> None:
    paces = Faulty(away=2)
    notifier = Notifier(MemoryJobStore(lambda: datetime.now(UTC)), MemoryEndpointStore())
    async with asyncio.timeout(30), Tally(paces, LOGGER, every_s=0.001) as tally:
        telling = Telling(FakeLive().worker(), notifier, tally.ended)
        for state in (JobState.RUNNING, JobState.RETRYING, JobState.SUCCEEDED, JobState.FAILED):
            telling.moved(running_job(JobKind.SEARCH).evolve(state=state))
        await paces.added.wait()
    assert await paces.ended() == {(JobKind.SEARCH, Lane.DEFAULT): 2}
