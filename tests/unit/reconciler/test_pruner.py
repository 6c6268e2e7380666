"""The walk over the large results."""

from __future__ import annotations

import pytest

from forebay.errors import StoreUnavailable
from forebay.jobs import Attempt, Event, Job
from forebay.store import Ending, JobRef, Pruned
from forebay.store.results import INLINE_BYTES
from reconciler.pruner import Pruner

from .conftest import World


async def test_the_pruner_walks_over_all_results_and_begins_anew(world: World) -> None:
    jobs = [await succeeded(world, f"job_{n}") for n in range(5)]
    pruner = Pruner(world.store, world.metrics, world.logger, batch=2)
    assert [await pruner.turn() for _ in range(3)] == [False, False, False]
    await world.store.retry("t", jobs[0].id)
    await world.store.retry("t", jobs[4].id)
    assert [await pruner.turn() for _ in range(4)] == [True, False, True, False]
    assert world.metrics.registry.get_sample_value("forebay_pruned_total") == 2
    assert await world.store.result(jobs[0]) is None
    assert all([await world.store.result(job) for job in jobs[1:4]])


async def test_a_step_of_the_pruner_that_fails_is_taken_again(world: World) -> None:
    jobs = [await succeeded(world, f"job_{n}") for n in range(4)]
    pruner = Pruner(world.store, world.metrics, world.logger, batch=2)
    await pruner.turn()
    prune = world.store.prune

    async def away(*_: object) -> Pruned:
        raise StoreUnavailable

    world.store.prune = away  # type: ignore[assignment, method-assign]
    with pytest.raises(StoreUnavailable):
        await pruner.turn()
    world.store.prune = prune  # type: ignore[method-assign]
    await world.store.retry("t", jobs[2].id)
    assert await pruner.turn()


async def succeeded(world: World, job_id: str) -> Job:
    """A job with a result that stands beside it."""
    job = await world.submit(job_id)
    claim = await world.store.claim(JobRef.of(job), "w", 30)
    running = claim.job  # type: ignore[union-attr]
    attempt = Attempt(
        n=1,
        generation=1,
        outcome="succeeded",
        worker="w",
        started_at=world.now,
        finished_at=world.now,
    )
    ending = Ending(event=Event.SUCCEEDED, attempt=attempt, result=f'"{"x" * INLINE_BYTES}"')
    ended = await world.store.finish(job_id, running.lease.token, ending)
    assert ended is not None
    return ended
