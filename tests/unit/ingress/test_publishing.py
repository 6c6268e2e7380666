"""The pump behind the 202: what it publishes, and what it leaves to the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.store.memory import MemoryJobStore
from ingress.publishing import OURS_S, PublishPump


class SlowPublisher:
    """Holds what it is given until it is let go; then everything is confirmed."""

    def __init__(self) -> None:
        self.busy = asyncio.Event()
        self.go_on = asyncio.Event()
        self.published: list[str] = []

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        self.busy.set()
        await self.go_on.wait()
        self.published += [message.job_id for message in messages]
        return [None] * len(messages)


def a_job(job_id: str) -> Job:
    now = datetime.now(UTC)
    return Job(
        id=job_id,
        tenant="t",
        kind=JobKind.SEARCH,
        lane=Lane.DEFAULT,
        state=JobState.QUEUED,
        input="{}",
        created_at=now,
        queued_at=now,
        max_attempts=3,
    )


async def left_to_the_relay(waited_s: float) -> tuple[list[str], list[str]]:
    """Two jobs, the second of which waits behind the first: the published, and the others."""
    publisher, store, now = SlowPublisher(), MemoryJobStore(lambda: datetime.now(UTC)), [100.0]
    jobs = [a_job("job_1"), a_job("job_2")]
    await store.insert(jobs)
    logger: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
    async with PublishPump(
        publisher, store, logger, max_pending=10, grace_s=5, clock=lambda: now[0]
    ) as pump:
        pump.offer(jobs[0])
        await publisher.busy.wait()
        pump.offer(jobs[1])
        now[0] += waited_s
        publisher.go_on.set()
    assert pump.pending == 0
    return publisher.published, [ref.id for ref in await store.unpublished(0, 10)]


async def test_what_waits_behind_others_is_published_when_its_turn_comes_soon():
    assert await left_to_the_relay(OURS_S - 0.1) == (["job_1", "job_2"], [])


async def test_what_waited_too_long_is_left_to_the_relay_and_not_published_by_both():
    assert await left_to_the_relay(OURS_S + 0.1) == (["job_1"], ["job_2"])
