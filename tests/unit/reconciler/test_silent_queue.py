"""A queue that confirms nothing (a quorum queue without a majority) holds up its own jobs only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import JobKind, JobState, Lane
from forebay.store import Route
from reconciler.outbox import Outbox
from reconciler.relay import Relay

from .conftest import START, World

SEARCH, LLM = (JobKind.SEARCH, Lane.DEFAULT), (JobKind.LLM, Lane.DEFAULT)
PUBLISH_TIMEOUT_S = 5


class SilentFor:
    """A publisher that some routes never answer: the whole call then lasts as long as it may."""

    def __init__(self, world: World, *routes: Route) -> None:
        self.routes = {*routes}
        self.tried: list[Counter[Route]] = []
        self._world = world

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        sent = Counter((message.kind, message.lane) for message in messages)
        self.tried.append(sent)
        if self.routes & sent.keys():
            self._world.advance(PUBLISH_TIMEOUT_S)
        return [
            NotPublished.TIMEOUT if (message.kind, message.lane) in self.routes else None
            for message in messages
        ]


def relay_of(world: World, publisher: SilentFor) -> Relay:
    outbox = Outbox(world.store, publisher, world.metrics, world.logger)
    return Relay(world.store, outbox, publish_after_s=2, batch=5, clock=world.clock)


async def unpublished(world: World, kind: JobKind) -> int:
    return sum(ref.kind is kind for ref in await world.store.unpublished(0, 1000))


async def turns(world: World, relay: Relay, count: int) -> None:
    for _ in range(count):
        await relay.turn()
        world.advance(0.5)


async def test_jobs_of_other_kinds_are_published_however_many_older_ones_a_silent_queue_has(
    world: World,
) -> None:
    for n in range(20):
        await world.submit(f"search_{n}")
    world.advance(1)
    for n in range(20):
        await world.submit(f"llm_{n}", kind=JobKind.LLM)
    world.advance(3)
    began = world.clock()
    await turns(world, relay_of(world, SilentFor(world, SEARCH)), 6)
    assert await unpublished(world, JobKind.LLM) == 0
    assert await unpublished(world, JobKind.SEARCH) == 20
    assert world.clock() - began < 3 * PUBLISH_TIMEOUT_S


async def test_a_silent_queue_is_tried_with_one_job_ever_more_seldom(world: World) -> None:
    for n in range(20):
        await world.submit(f"search_{n}")
    world.advance(3)
    publisher = SilentFor(world, SEARCH)
    relay, began = relay_of(world, publisher), world.clock()
    await turns(world, relay, 400)
    assert publisher.tried[0] == {SEARCH: 5}
    assert all(sent == {SEARCH: 1} for sent in publisher.tried[1:])
    # Pauses of 1, 2, 4, 8, 16 and then 30 s, and 5 s of waiting after each.
    assert 2 <= len(publisher.tried) - (world.clock() - began) / 36 <= 7


async def test_a_queue_that_answers_again_is_worked_off_in_batches(world: World) -> None:
    for n in range(20):
        await world.submit(f"search_{n}")
    world.advance(3)
    publisher = SilentFor(world, SEARCH)
    relay = relay_of(world, publisher)
    await turns(world, relay, 1)
    publisher.routes.clear()
    world.advance(1)
    await turns(world, relay, 1)
    assert await unpublished(world, JobKind.SEARCH) == 19
    await turns(world, relay, 4)
    assert await unpublished(world, JobKind.SEARCH) == 0


async def test_what_becomes_due_for_a_silent_queue_does_not_hold_up_what_is_due_for_others(
    world: World,
) -> None:
    await world.submit("first")
    world.advance(3)
    publisher = SilentFor(world, SEARCH)
    relay = relay_of(world, publisher)
    await relay.turn()
    waits = {"state": JobState.RETRYING, "not_before": START, "queued_at": None}
    await world.submit("search_due", **waits)
    await world.submit("llm_due", kind=JobKind.LLM, **waits)
    before = world.clock()
    await relay.turn()
    assert world.clock() == before
    assert (await world.job("llm_due")).published_at is not None
    assert (await world.job("search_due")).state is JobState.QUEUED
    publisher.routes.clear()
    world.advance(3)
    await turns(world, relay, 2)
    assert (await world.job("search_due")).published_at is not None


@pytest.mark.parametrize("answers", [True, False])
async def test_a_queue_that_answers_for_some_of_a_batch_is_not_a_silent_one(
    world: World, answers: bool
) -> None:
    class Partly(SilentFor):
        async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
            outcomes = [*await super().publish(messages)]
            return [None, *outcomes[1:]] if answers else outcomes

    await world.submit("old", queued_at=START - timedelta(seconds=9))
    await world.submit("new")
    world.advance(3)
    relay = relay_of(world, Partly(world, SEARCH))
    await turns(world, relay, 2)
    assert await unpublished(world, JobKind.SEARCH) == (0 if answers else 2)
