"""What must be true of a history when it is over; each breach is a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from forebay.broker import DeadReason
from forebay.broker.topology import queue_name
from forebay.jobs import Job, JobKind, JobState, OnUnknown
from forebay.store.memory import MemoryJobStore
from forebay.webhooks.delivery import about

from .callers import Callers
from .provider import lost_in_a_row
from .script import ROUTES
from .wire import at_once

if TYPE_CHECKING:
    from .world import World


def unsettled(world: World) -> list[str]:
    """What is still to be done (I1, I10); empty when all is quiet."""
    found = [f"{world.name_of(job.id)} is {job.state}" for job in world.store.all() if not job.done]
    found += [
        f"an end of {world.name_of(job.id)} is not told" for job in world.store.all() if job.untold
    ]
    if world.broker.held:
        found.append(f"{world.broker.held} messages are not settled")
    found += [
        f"{waiting} messages wait in {queue_name(*route)}"
        for route in ROUTES
        if (waiting := world.broker.waiting(*route))
    ]
    found += [
        f"{process.name} owes a dead letter for {world.name_of(job_id)}"
        for (job_id, _), process in world.letters.owed().items()
    ]
    return found


def breaches(world: World, callers: Callers) -> Iterator[str]:
    """Every promise that this history broke, beside those that each change was judged by."""
    yield from _keys(world, callers)
    yield from _letters(world)
    yield from _webhooks(world)
    for job in world.store.all():
        for breach in _calls(world, job):
            yield f"{world.name_of(job.id)}: {breach}"
        for breach in _result(world.store, job):
            yield f"{world.name_of(job.id)}: {breach}"
        for breach in _neighbors(world, job):
            yield f"{world.name_of(job.id)}: {breach}"
        if _called_again_unasked(job):
            yield f"{world.name_of(job.id)}: called again, though the job forbids it"
    for task in world.tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            yield f"the simulation itself failed in {task.get_name()}: {error!r}"
    yield from world.loop.unasked()


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


def _letters(world: World) -> Iterator[str]:
    """The dead queues hold what should be there, and no job that ended otherwise."""
    buried = [letter for kind in JobKind for letter in world.broker.dead(kind)]
    for foreign in world.letters.unburied(buried):
        yield f"{foreign} is in no dead queue"
    exhausted = {"x-forebay-reason": DeadReason.ATTEMPTS_EXHAUSTED.value}.items()
    told = [json.loads(one.body) for one in buried if exhausted <= one.headers.items()]
    there = {(one["job_id"], one["generation"]): None for one in told}
    for job_id, generation in there:
        if (job_id, generation) not in world.letters.due:
            yield f"{world.name_of(job_id)} has a dead letter, and is none"
    for job_id, generation in world.letters.due:
        # With faults it may be lost on its way; who owes it is judged before all is quiet.
        if not world.faults and (job_id, generation) not in there:
            yield f"{world.name_of(job_id)} has no dead letter"


def _webhooks(world: World) -> Iterator[str]:
    """I6: every end of a job that names a webhook is told under one id, and no other is told."""
    told = Counter(
        (about(job)["job"], about(job)["event"])
        for job in world.store.all()
        if job.kind is JobKind.WEBHOOK
    )
    for job in world.store.all():
        if job.kind is JobKind.WEBHOOK:
            continue
        # It is at its end in its present generation, and was in each one before.
        wanted = job.generation if job.webhook is not None and job.done else 0
        count = sum(number for (job_id, _), number in told.items() if job_id == job.id)
        if count != wanted and (job.done or job.webhook is None):
            yield f"{world.name_of(job.id)} has {wanted} ends to tell and {count} deliveries (I6)"


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


def _neighbors(world: World, job: Job) -> Iterator[str]:
    """A poison takes two attempts in a row of a job beside it: then neither runs with the other."""
    for end in range(3, len(job.history) + 1):
        lost = lost_in_a_row(job.history[:end])[:3]
        took = [world.provider.killed_by.get((job.id, one.generation, one.n)) for one in lost]
        if len(took) == 3 and None not in took and len({*took}) == 1:
            yield f"lost three attempts in a row to {world.name_of(took[0][0])}"


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
