"""The pump behind the 202: what it publishes, and what it leaves to the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.store import JobRef
from forebay.store.memory import MemoryJobStore
from forebay.testing.polling import until
from ingress.publishing import OURS_S, SILENT_S, PublishPump
from reconciler.settings import ReconcilerSettings


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


def a_job(job_id: str, kind: JobKind = JobKind.SEARCH) -> Job:
    now = datetime.now(UTC)
    return Job(
        id=job_id,
        tenant="t",
        kind=kind,
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
        pump.offer(JobRef.of(jobs[0]))
        await publisher.busy.wait()
        pump.offer(JobRef.of(jobs[1]))
        now[0] += waited_s
        publisher.go_on.set()
    assert pump.pending == 0
    return publisher.published, [ref.id for ref in await store.unpublished(0, 10)]


async def test_what_waits_behind_others_is_published_when_its_turn_comes_soon():
    assert await left_to_the_relay(OURS_S - 0.1) == (["job_1", "job_2"], [])


async def test_what_waited_too_long_is_left_to_the_relay_and_not_published_by_both():
    assert await left_to_the_relay(OURS_S + 0.1) == (["job_1"], ["job_2"])


def test_the_relay_leaves_the_pump_the_time_to_confirm_and_mark_what_it_began_with():
    # At 2 s and 5 s; closer together, and a starved machine published half of a burst twice.
    assert ReconcilerSettings().publish_after_s - OURS_S >= 3


class SilentForSearches:
    """Does not answer for searches until it is told to say that it heard nothing."""

    def __init__(self) -> None:
        self.give_up = asyncio.Event()
        self.silent = True
        self.busy = asyncio.Event()
        self.published: list[str] = []

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        searches = any(message.kind is JobKind.SEARCH for message in messages)
        if searches and self.silent:
            self.busy.set()
            await self.give_up.wait()
            return [NotPublished.TIMEOUT] * len(messages)
        self.published += [message.job_id for message in messages]
        return [None] * len(messages)


class Silence:
    """A pump on a broker that is silent about searches."""

    def __init__(self) -> None:
        self.now = 100.0
        self.publisher = SilentForSearches()
        self.store = MemoryJobStore(lambda: datetime.now(UTC))
        logger: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
        self.pump = PublishPump(
            self.publisher, self.store, logger, max_pending=10, grace_s=5, clock=lambda: self.now
        )

    async def offer(self, job_id: str, kind: JobKind = JobKind.SEARCH) -> None:
        job = a_job(job_id, kind)
        await self.store.insert([job])
        self.pump.offer(JobRef.of(job))

    async def settled(self, *, but: int) -> None:
        async def only_these() -> bool:
            return self.pump.pending == but

        await until(only_these, within_s=5)

    async def left(self) -> list[str]:
        return [ref.id for ref in await self.store.unpublished(0, 10)]


async def test_a_queue_that_does_not_confirm_holds_up_no_other():
    silence = Silence()
    async with silence.pump:
        await silence.offer("job_search")
        await silence.publisher.busy.wait()
        await silence.offer("job_llm", JobKind.LLM)
        await silence.settled(but=1)
        assert silence.publisher.published == ["job_llm"]
        assert await silence.left() == ["job_search"]
        silence.publisher.give_up.set()


async def test_the_jobs_of_a_queue_that_did_not_confirm_are_the_relays_for_a_while():
    silence = Silence()
    async with silence.pump:
        await silence.offer("job_1")
        await silence.publisher.busy.wait()
        await silence.offer("job_2")
        silence.publisher.give_up.set()
        await silence.settled(but=0)
        silence.publisher.silent = False
        silence.now += SILENT_S - 0.1
        await silence.offer("job_3")
        await silence.offer("job_llm", JobKind.LLM)
        assert silence.pump.pending == 1
        silence.now += 0.2
        await silence.offer("job_4")
    assert sorted(silence.publisher.published) == ["job_4", "job_llm"]
    assert await silence.left() == ["job_1", "job_2", "job_3"]
