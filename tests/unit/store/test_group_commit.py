from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from forebay.errors import StoreOverloaded, StoreUnavailable, Unstorable
from forebay.jobs import Idempotency, Job
from forebay.store import Inserted, InsertResult, KeyTaken
from forebay.store.group_commit import GroupCommit, PendingLimits
from forebay.store.memory import MemoryJobStore
from tests.contract.store.jobs import a_job


class GatedStore(MemoryJobStore):
    """A memory store whose inserts wait at a gate, and which can be away or broken."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()
        self.batches: list[int] = []
        self.failures: list[BaseException] = []

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        self.batches.append(len(jobs))
        self.arrived.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await super().insert(jobs)

    async def hold(self, commit: GroupCommit) -> asyncio.Task[InsertResult]:
        """Close the gate with one accept behind it, so that the next ones must wait."""
        self.gate.clear()
        self.arrived.clear()
        first = asyncio.create_task(commit.insert(a_job()))
        await self.arrived.wait()
        return first


@pytest.fixture
async def store() -> GatedStore:
    return GatedStore()


async def begun(commit: GroupCommit, jobs: Sequence[Job]) -> list[asyncio.Task[InsertResult]]:
    """Accepts that stand in the queue."""
    tasks = [asyncio.create_task(commit.insert(job)) for job in jobs]
    await asyncio.sleep(0)
    return tasks


async def test_a_lone_accept_waits_for_nobody(store: GatedStore) -> None:
    job = a_job()
    async with GroupCommit(store) as commit:
        assert await commit.insert(job) == Inserted()
    assert store.batches == [1]
    assert await store.get("default", job.id) == job


async def test_what_comes_during_a_write_goes_together_in_the_next(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job() for _ in range(20)])
        assert commit.pending == 20
        store.gate.set()
        assert await asyncio.gather(first, *rest) == [Inserted()] * 21
    assert store.batches == [1, 20]


async def test_a_batch_is_bounded_by_count(store: GatedStore) -> None:
    async with GroupCommit(store, max_jobs=8) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job() for _ in range(20)])
        store.gate.set()
        await asyncio.gather(first, *rest)
    assert store.batches == [1, 8, 8, 4]


async def test_a_batch_is_bounded_by_bytes_and_one_larger_job_goes_alone(
    store: GatedStore,
) -> None:
    sizes = [400, 400, 400, 5000, 10]
    async with GroupCommit(store, max_bytes=1000) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(input="x" * size) for size in sizes])
        store.gate.set()
        await asyncio.gather(first, *rest)
    assert store.batches == [1, 2, 1, 1, 1]


async def test_each_caller_hears_of_its_own_job(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        taken = Idempotency("key", "f")
        rest = await begun(commit, [a_job(idempotency=taken), a_job(idempotency=taken), a_job()])
        store.gate.set()
        assert await asyncio.gather(*rest) == [Inserted(), KeyTaken(), Inserted()]
        await first


async def test_a_store_that_is_away_fails_that_batch_only(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(), a_job()])
        store.failures.append(StoreUnavailable("away"))
        store.gate.set()
        with pytest.raises(StoreUnavailable, match="away"):
            await first
        assert await asyncio.gather(*rest) == [Inserted(), Inserted()]


async def test_each_failed_caller_gets_an_error_of_its_own(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(), a_job()])
        store.failures += [StoreUnavailable("before"), StoreUnavailable("away")]
        store.gate.set()
        _, *errors = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [str(error) for error in errors] == ["away", "away"]
    assert errors[0] is not errors[1]


async def test_one_job_that_cannot_be_stored_fails_alone(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(), a_job(tags=("\ud800",)), a_job()])
        store.gate.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Inserted, Inserted, Unstorable, Inserted]


async def test_text_that_is_not_unicode_is_refused_before_it_waits(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        with pytest.raises(Unstorable):
            await commit.insert(a_job(input="\ud800"))
    assert store.batches == []


async def test_a_defect_of_the_store_fails_its_callers_and_not_the_flusher(
    store: GatedStore,
) -> None:
    async with GroupCommit(store) as commit:
        store.failures.append(ZeroDivisionError("a defect"))
        with pytest.raises(ZeroDivisionError):
            await commit.insert(a_job())
        assert await commit.insert(a_job()) == Inserted()


async def test_a_store_that_answers_for_too_few_jobs_does_not_end_the_flusher() -> None:
    class Forgetful(GatedStore):
        async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
            results = await super().insert(jobs)
            return results[1:] if len(self.batches) == 1 else results

    async with GroupCommit(Forgetful()) as commit:
        with pytest.raises(ValueError, match="zip"):
            await commit.insert(a_job())
        assert await commit.insert(a_job()) == Inserted()


async def test_a_caller_that_leaves_does_not_cancel_its_accept(store: GatedStore) -> None:
    job = a_job()
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        (left,) = await begun(commit, [job])
        left.cancel()
        store.gate.set()
        await first
        with pytest.raises(asyncio.CancelledError):
            await left
    assert await store.get("default", job.id) == job


async def test_a_caller_that_leaves_during_the_write_does_not_cancel_it(
    store: GatedStore,
) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        first.cancel()
        store.gate.set()
        assert await commit.insert(a_job()) == Inserted()
    assert store.batches == [1, 1]


async def test_a_caller_that_leaves_costs_the_others_of_its_batch_nothing(
    store: GatedStore,
) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        left, stays = await begun(commit, [a_job(), a_job()])
        left.cancel()
        store.gate.set()
        assert await asyncio.gather(first, stays) == [Inserted(), Inserted()]
    assert store.batches == [1, 2]


async def test_too_many_waiting_are_refused_at_once(store: GatedStore) -> None:
    async with GroupCommit(store, limits=PendingLimits(jobs=2)) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(), a_job()])
        with pytest.raises(StoreOverloaded):
            await commit.insert(a_job())
        store.gate.set()
        await asyncio.gather(first, *rest)
        assert await commit.insert(a_job()) == Inserted()


async def test_too_many_bytes_waiting_are_refused_at_once(store: GatedStore) -> None:
    async with GroupCommit(store, limits=PendingLimits(bytes=1000)) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(input="x" * 900)])
        with pytest.raises(StoreOverloaded):
            await commit.insert(a_job(input="x" * 200))
        store.gate.set()
        await asyncio.gather(first, *rest)
        assert await commit.insert(a_job(input="x" * 200)) == Inserted()


async def test_what_waited_too_long_is_refused_and_never_written(store: GatedStore) -> None:
    job = a_job()
    async with GroupCommit(store, limits=PendingLimits(answer_within_s=-1)) as commit:
        with pytest.raises(StoreUnavailable):
            await commit.insert(job)
    assert await store.get("default", job.id) is None


async def test_closing_ends_what_was_begun_and_takes_no_more(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job(), a_job()])
        store.gate.set()
    assert await asyncio.gather(first, *rest) == [Inserted()] * 3
    with pytest.raises(StoreOverloaded):
        await commit.insert(a_job())


async def test_a_canceled_close_leaves_nobody_waiting(store: GatedStore) -> None:
    async def serve() -> None:
        async with GroupCommit(store) as commit:
            accepts.append(await store.hold(commit))
            accepts.extend(await begun(commit, [a_job()]))
            held.set()

    accepts: list[asyncio.Task[InsertResult]] = []
    held = asyncio.Event()
    serving = asyncio.create_task(serve())
    await held.wait()
    await asyncio.sleep(0)
    serving.cancel()
    answers = await asyncio.gather(*accepts, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreOverloaded]
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_when_the_store_goes_away_over_a_bad_job_the_rest_does_not_wait_for_it_one_by_one(
    store: GatedStore,
) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        rest = await begun(commit, [a_job() for _ in range(64)])
        # The batch is refused for one of its jobs; then, at the first half of it, nobody answers.
        store.failures += [StoreUnavailable(), Unstorable("one of them"), StoreUnavailable()]
        store.gate.set()
        _, *errors = await asyncio.gather(first, *rest, return_exceptions=True)
    assert {type(error) for error in errors} == {StoreUnavailable}
    assert store.batches == [1, 64, 32]


async def test_a_cancellation_that_nobody_asked_for_is_a_store_that_is_away(
    store: GatedStore,
) -> None:
    async with GroupCommit(store) as commit:
        store.failures.append(asyncio.CancelledError())
        with pytest.raises(StoreUnavailable):
            await commit.insert(a_job())
        assert await commit.insert(a_job()) == Inserted()


async def test_a_bad_job_among_many_is_found_in_few_writes(store: GatedStore) -> None:
    async with GroupCommit(store) as commit:
        first = await store.hold(commit)
        jobs = [a_job() for _ in range(64)]
        jobs[37] = a_job(tags=("\ud800",))
        rest = await begun(commit, jobs)
        store.gate.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [n for n, answer in enumerate(answers[1:]) if answer != Inserted()] == [37]
    assert len(store.batches) <= 2 + 2 * 6
