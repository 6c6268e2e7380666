from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pytest

from forebay.audit import reading
from forebay.audit.reading import PAGE, look, look_until_terminal
from forebay.errors import StoreUnavailable
from forebay.jobs import Job, JobEnd, JobState
from forebay.store.memory import MemoryJobStore
from tests.contract.store.jobs import a_job


class Watched(MemoryJobStore):
    """The fake store; notes how much was asked for, and can be away for some looks."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self.asked: list[int] = []
        self.away_for = 0
        self.was_asked = asyncio.Event()

    async def look_up(self, job_ids: Collection[str]) -> Sequence[Job]:
        self.asked.append(len(job_ids))
        self.was_asked.set()
        if self.away_for:
            self.away_for -= 1
            raise StoreUnavailable
        return await super().look_up(job_ids)

    def becomes(self, job: Job) -> None:
        self._put(job)


async def test_many_jobs_are_looked_up_in_pages() -> None:
    store = Watched()
    jobs = [a_job() for _ in range(PAGE + 5)]
    await store.insert(jobs)
    found = await look(store, [job.id for job in jobs] + ["unknown"])
    assert found.keys() == {job.id for job in jobs}
    assert store.asked == [PAGE, 6]


async def test_one_look_is_made_when_nobody_waits() -> None:
    store = Watched()
    job = a_job()
    await store.insert([job])
    found = await look_until_terminal(store, [job.id, "unknown"], 0)
    assert found[job.id].state is JobState.QUEUED
    assert store.asked == [2]


async def test_what_is_open_is_looked_at_again_until_it_is_not() -> None:
    store = Watched()
    open_job, done = a_job(), a_job(state=JobState.SUCCEEDED, result="1")
    await store.insert([open_job, done])
    waiting = asyncio.create_task(look_until_terminal(store, [open_job.id, done.id, "gone"], 600))
    await store.was_asked.wait()
    store.becomes(open_job.evolve(state=JobState.SUCCEEDED, result="2"))
    found = await waiting
    assert {i: job.state for i, job in found.items()} == dict.fromkeys(
        (open_job.id, done.id), JobState.SUCCEEDED
    )
    assert store.asked == [3, 1]


async def test_an_end_that_is_untold_is_looked_at_again() -> None:
    store, now = Watched(), datetime.now(UTC)
    end = JobEnd(1, JobState.SUCCEEDED, now)
    job = a_job(state=JobState.SUCCEEDED, result="1", notifies=True, untold=(end,))
    await store.insert([job])
    waiting = asyncio.create_task(look_until_terminal(store, [job.id], 600))
    await store.was_asked.wait()
    await store.told(job.id, 1)
    found = await waiting
    assert not found[job.id].untold
    assert store.asked == [1, 1]


async def test_a_store_that_is_away_is_asked_again_while_there_is_time() -> None:
    store = Watched()
    store.away_for = 1
    assert await look_until_terminal(store, ["unknown"], 600) == {}
    assert store.asked == [1, 1]
    store.away_for = 1
    with pytest.raises(StoreUnavailable):
        await look_until_terminal(store, ["unknown"], 0)


async def test_waiting_ends_when_the_time_is_over() -> None:
    store = Watched()
    job = a_job()
    await store.insert([job])
    found = await look_until_terminal(store, [job.id], reading.LOOK_EVERY_S / 4)
    assert found[job.id].state is JobState.QUEUED
    assert len(store.asked) == 2
