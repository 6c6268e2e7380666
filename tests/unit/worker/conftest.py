"""A worker on the shipped fakes: the real runtime, pool, execution and call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from forebay.broker import JobMessage
from forebay.jobs import Job, JobKind, JobState, Lane, Usage
from forebay.outcomes import Call, Outcome, Succeeded
from forebay.process import Process
from forebay.progress import Write, unheard
from forebay.requests import SearchRequest
from forebay.retry import RetryPolicy
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.memory import MemoryJobStore
from forebay.store.patience import Preparation
from forebay.store.watch import Watch
from forebay.testing.broker import FakeBroker, FakeConsumer
from forebay.testing.live import FakeLive
from forebay.webhooks.notifier import Notifier
from forebay.worker.call import CallLimits, LeasedCall
from forebay.worker.execution import Execution, ExecutionPolicy
from forebay.worker.pool import Pool
from forebay.worker.runtime import serve
from forebay.worker.telling import Telling

TENANT = "t"
DONE = Succeeded('{"answer":42}', Call("acme", 200, "req-1"), Usage(3, 4))


class Clock:
    """The store's clock; stands still unless moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


Answer = Callable[[Job], Awaitable[Outcome]]


class Scripted:
    """A handler that does what the test says and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Job] = []
        self.running = 0
        self.most = 0
        self.answer: Answer | None = None
        self.write: Write = unheard
        """Of the last call."""

    async def handle(self, job: Job, request: SearchRequest, write: Write, /) -> Outcome:
        self.write = write
        assert request.query
        self.calls.append(job)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.answer(job) if self.answer else DONE
        finally:
            self.running -= 1


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until it holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the condition may be about anything
            await asyncio.sleep(0)


@dataclass
class Rig:
    """A worker and everything around it."""

    clock: Clock = field(default_factory=Clock)
    broker: FakeBroker = field(default_factory=FakeBroker)
    handler: Scripted = field(default_factory=Scripted)
    process: Process = field(default_factory=lambda: Process("search_worker", _quiet()))
    lease_s: float = 30.0
    timeout_s: float = 60.0
    grace_s: float = 10.0
    concurrency: int = 4
    look_s: float = 1.0

    def __post_init__(self) -> None:
        self.live = FakeLive()
        self.store = MemoryJobStore(self.clock)
        self.endpoints = MemoryEndpointStore()
        notifier = Notifier(self.store, self.endpoints)
        self.telling = Telling(self.live.worker(), notifier)
        self.consumer: FakeConsumer = self.broker.consumer(JobKind.SEARCH, self.concurrency + 1)

    async def submit(self, job_id: str = "job_1", **changes: Any) -> Job:
        job = Job(
            id=job_id,
            tenant=TENANT,
            kind=JobKind.SEARCH,
            lane=Lane.DEFAULT,
            state=JobState.QUEUED,
            input='{"query":"forebay"}',
            created_at=self.clock.now,
            queued_at=self.clock.now,
            max_attempts=3,
        ).evolve(**changes)
        await self.store.insert([job])
        await self.publish(job)
        return job

    async def publish(self, job: Job) -> None:
        message = JobMessage(job.id, job.generation, job.kind, job.lane)
        await self.broker.publisher().publish([message])

    async def job(self, job_id: str = "job_1") -> Job:
        job = await self.store.get(TENANT, job_id)
        assert job is not None
        return job

    async def settled(self, count: int = 1) -> None:
        await until(lambda: sum(self.consumer.settled.values()) >= count)

    async def called(self, count: int = 1) -> None:
        await until(lambda: len(self.handler.calls) >= count)

    def pool(self, stops: Watch) -> Pool:
        call = LeasedCall(
            self.store,
            self.handler,
            stops,
            self.telling,
            self.process.logger,
            CallLimits(self.timeout_s, self.lease_s),
        )
        policy = ExecutionPolicy("worker-1", self.lease_s, RetryPolicy(base_s=10))
        execution = Execution(
            self.store, call, SearchRequest, policy, self.process.metrics, self.process.logger
        )
        return Pool(execution.execute, self.concurrency, self.process.logger)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """The worker runs inside; it is asked to stop at the end."""
        process = self.process
        async with Watch(
            self.store.asked_to_stop, process.logger, name="stop", tick_s=self.look_s
        ) as stops:
            pool, ready = self.pool(stops), Preparation(self.store)
            task = asyncio.create_task(serve(process, ready, self.consumer, pool, self.grace_s))
            try:
                yield task
            finally:
                if not process.signals.drain.is_set():
                    process.signals.ask()
                async with asyncio.timeout(10):
                    await task

    def counted(self, name: str, **labels: str) -> float:
        return self.process.metrics.registry.get_sample_value(name, labels) or 0.0


def _quiet() -> Any:
    return structlog.wrap_logger(structlog.ReturnLogger(), processors=[])


@pytest.fixture
def rig() -> Rig:
    return Rig()
