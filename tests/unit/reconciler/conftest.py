"""The reconciler's loops on the shipped fakes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.store.memory import MemoryJobStore
from forebay.telemetry.metrics import Metrics
from forebay.testing.broker import FakeBroker
from reconciler.outbox import Outbox
from reconciler.refiller import Refiller, RefillRules
from reconciler.relay import Relay
from reconciler.rescuer import Rescuer

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


async def all_turns(loop: Relay | Refiller) -> int:
    """Turn until there is nothing left to do at once; how many turns that took."""
    turns = 1
    while await loop.turn():
        turns += 1
        assert turns < 1000, "it never ends"
    return turns


class World:
    def __init__(self) -> None:
        self.now = START
        self.store = MemoryJobStore(lambda: self.now)
        self.broker = FakeBroker()
        self.metrics = Metrics()
        self.logger: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])

    def relay(self, batch: int = 10) -> Relay:
        return Relay(self.store, self.outbox(), publish_after_s=2, batch=batch, clock=self.clock)

    def refiller(self, batch: int = 10) -> Refiller:
        publisher = self.broker.publisher()
        rules = RefillRules(lost_after_s=40, batch=batch)
        return Refiller(self.store, publisher, self.outbox(), self.logger, rules, self.clock)

    async def fill(self, count: int, name: str = "job", **changes: Any) -> None:
        """Submit and publish."""
        for n in range(count):
            await self.submit(f"{name}_{n}", **changes)
        self.advance(2)
        await all_turns(self.relay())

    def outbox(self) -> Outbox:
        return Outbox(self.store, self.broker.publisher(), self.metrics, self.logger)

    def clock(self) -> float:
        return self.now.timestamp()

    def rescuer(self) -> Rescuer:
        return Rescuer(self.store, self.broker.publisher(), self.metrics, self.logger, batch=10)

    async def submit(self, job_id: str = "job_1", **changes: Any) -> Job:
        job = Job(
            id=job_id,
            tenant="t",
            kind=JobKind.SEARCH,
            lane=Lane.DEFAULT,
            state=JobState.QUEUED,
            input="{}",
            created_at=self.now,
            queued_at=self.now,
            max_attempts=2,
        ).evolve(**changes)
        await self.store.insert([job])
        return job

    async def job(self, job_id: str = "job_1") -> Job:
        job = await self.store.get("t", job_id)
        assert job is not None
        return job

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def waiting(self) -> int:
        return self.broker.waiting(JobKind.SEARCH, Lane.DEFAULT)


@pytest.fixture
def world() -> World:
    return World()
