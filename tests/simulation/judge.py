"""What must be true of a history when it is over; each breach is a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from forebay.broker.topology import queue_name
from forebay.jobs import Job, JobState, OnUnknown
from forebay.store.memory import MemoryJobStore

from .callers import Callers
from .script import ROUTES
from .wire import at_once

if TYPE_CHECKING:
    from .world import World


def unsettled(world: World) -> list[str]:
    """What is still to be done (I1, I10); empty when all is quiet."""
    found = [f"{world.name_of(job.id)} is {job.state}" for job in world.store.all() if not job.done]
    if world.broker.held:
        found.append(f"{world.broker.held} messages are not settled")
    found += [
        f"{waiting} messages wait in {queue_name(*route)}"
        for route in ROUTES
        if (waiting := world.broker.waiting(*route))
    ]
    return found


def breaches(world: World, callers: Callers) -> Iterator[str]:
    """Every promise that this history broke, beside those that each change was judged by."""
    yield from _keys(world, callers)
    for job in world.store.all():
        for breach in _calls(world, job):
            yield f"{world.name_of(job.id)}: {breach}"
        for breach in _result(world.store, job):
            yield f"{world.name_of(job.id)}: {breach}"
        if _called_again_unasked(job):
            yield f"{world.name_of(job.id)}: called again, though the job forbids it"
    for task in world.tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            yield f"the simulation itself failed in {task.get_name()}: {error!r}"


def _keys(world: World, callers: Callers) -> Iterator[str]:
    """I2 and I9."""
    for wish in callers.wishes:
        ids = {job.id for job in wish.answers}
        for job_id in ids:
            if world.store.look(job_id) is None:
                yield f"{world.name_of(job_id)} was accepted and is gone (I2)"
        if wish.key is not None and len(ids) > 1:
            yield f"{wish.key} is {len(ids)} jobs (I9)"
    keys = Counter(job.idempotency.key for job in world.store.all() if job.idempotency)
    for key, count in keys.items():
        if count > 1:
            yield f"{key} has {count} jobs in the store (I9)"


def _calls(world: World, job: Job) -> Iterator[str]:
    """I4."""
    asked = [call for call in world.provider.calls if call.job_id == job.id]
    by_attempt = Counter((call.generation, call.n) for call in asked)
    for (generation, n), count in by_attempt.items():
        if count > 1:
            yield f"attempt {n} of generation {generation} called {count} times (I4)"
    for generation, count in Counter(call.generation for call in asked).items():
        if count > job.max_attempts:
            yield f"{count} calls in generation {generation} of {job.max_attempts} allowed (I4)"
    now = [call for call in asked if call.generation == job.generation]
    if job.state is JobState.SUCCEEDED and not now:
        yield "succeeded without a call (I4)"
    if job.state in {JobState.CANCELED, JobState.EXPIRED} and job.attempts == 0 and now:
        yield f"{job.state} before its start, and called (I4)"
    for call in asked:
        if call.state in {"gone", JobState.SCHEDULED} and call.generation == job.generation:
            yield f"called while it was {call.state}"


def _result(store: MemoryJobStore, job: Job) -> Iterator[str]:
    """I3, and that the result is the one that the last attempt was given."""
    text = at_once(store.result(job))
    if (text is not None) != (job.state is JobState.SUCCEEDED):
        yield f"{job.state} {'with' if text is not None else 'without'} a result (I3)"
    if text is None:
        return
    result = json.loads(text)
    last = job.history[-1]
    if (result["generation"], result["n"]) != (job.generation, last.n):
        yield (
            f"the result is of attempt {result['generation']}/{result['n']}, "
            f"the job ended with {job.generation}/{last.n} (I3)"
        )


def _called_again_unasked(job: Job) -> bool:
    """With `on_unknown: fail` a lost attempt is the last of its generation."""
    if job.on_unknown is not OnUnknown.FAIL:
        return False
    return any(
        one.outcome == "lease_lost" and one.generation == then.generation
        for one, then in pairwise(job.history)
    )
