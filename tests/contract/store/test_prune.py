"""Large results that no job points to any more."""

from __future__ import annotations

from forebay.jobs import Event, Job
from forebay.store import JobStore, Pruned
from forebay.store.results import INLINE_BYTES
from tests.contract.store.jobs import an_ending, claimed, started, stored, token_of

LARGE = f'"{"x" * INLINE_BYTES}"'


async def with_large_result(store: JobStore) -> Job:
    job = await started(store)
    ending = an_ending(job, Event.SUCCEEDED, result=LARGE)
    ended = await store.finish(job.id, token_of(job), ending)
    assert ended is not None
    return ended


async def test_an_empty_store_has_nothing_to_prune(store: JobStore) -> None:
    assert await store.prune(None, 10) == Pruned(0, None)


async def test_a_result_that_its_job_points_to_is_kept(store: JobStore) -> None:
    job = await with_large_result(store)
    assert await store.prune(None, 10) == Pruned(0, None)
    assert await store.result(job) == LARGE


async def test_the_former_result_of_a_retried_job_is_removed(store: JobStore) -> None:
    job, other = await with_large_result(store), await with_large_result(store)
    assert await store.retry("default", job.id) is not None
    assert await store.prune(None, 10) == Pruned(1, None)
    assert await store.result(job) is None
    assert await store.result(other) == LARGE
    assert await store.prune(None, 10) == Pruned(0, None)


async def test_the_result_of_a_later_generation_is_kept(store: JobStore) -> None:
    job = await with_large_result(store)
    await store.retry("default", job.id)
    again = await claimed(store, await stored(store, job))
    await store.finish(job.id, token_of(again), an_ending(again, Event.SUCCEEDED, result=LARGE))
    assert await store.prune(None, 10) == Pruned(1, None)
    assert await store.result(await stored(store, job)) == LARGE


async def test_the_walk_goes_on_where_it_was_and_ends(store: JobStore) -> None:
    jobs = [await with_large_result(store) for _ in range(5)]
    await store.retry("default", jobs[3].id)
    first = await store.prune(None, 2)
    assert (first.removed, first.reached is None) == (0, False)
    second = await store.prune(first.reached, 2)
    assert (second.removed, second.reached is None) == (1, False)
    assert await store.prune(second.reached, 2) == Pruned(0, None)
