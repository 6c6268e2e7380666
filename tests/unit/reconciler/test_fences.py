"""What goes wrong for one route while the refiller looks at it costs the others nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
import structlog
from structlog.testing import LogCapture

from forebay.errors import StoreUnavailable
from forebay.jobs import JobKind, Lane
from forebay.store import JobRef, Route
from forebay.store.memory import MemoryJobStore

from .conftest import World, all_turns

FIRST = next((kind, Lane.INTERACTIVE) for kind in JobKind)


class FailsForOne(MemoryJobStore):
    """A store that cannot look into one route."""

    error: Exception

    async def unclaimed(
        self, route: Route, older_than_s: float, limit: int, after: datetime | None = None
    ) -> Sequence[JobRef]:
        if route == FIRST:
            raise self.error
        return await super().unclaimed(route, older_than_s, limit, after)


@pytest.mark.parametrize("error", [StoreUnavailable("it took more than 2.5 s"), KeyError("kind")])
async def test_a_route_that_cannot_be_looked_into_is_named_and_the_next_are_refilled(
    world: World, error: Exception
) -> None:
    store = world.store = FailsForOne(lambda: world.now)
    store.error = error
    told = LogCapture()
    world.logger = structlog.wrap_logger(structlog.ReturnLogger(), processors=[told])
    await world.fill(5, "first", kind=FIRST[0], lane=FIRST[1])
    await world.fill(25)
    world.advance(60)
    world.broker.purge()
    await all_turns(world.refiller())
    assert world.waiting() == 25
    failed = {line["route"] for line in told.entries if line["event"] == "loop.failed"}
    assert failed == {".".join(FIRST)}


async def test_a_short_queue_is_counted_no_further_than_one_turn_can_refill(world: World) -> None:
    class Counted(MemoryJobStore):
        limits: list[int] = []  # noqa: RUF012  one test, one store

        async def confirmed(self, route: Route, limit: int) -> int:
            self.limits.append(limit)
            return await super().confirmed(route, limit)

    store = world.store = Counted(lambda: world.now)
    await world.fill(300, "lost")
    world.advance(30)
    world.broker.purge()
    await world.fill(15, "after")
    world.advance(20)
    await all_turns(world.refiller())
    # Ten pages of ten, and the batch that may be in the hands of workers.
    assert store.limits == [15 + 10 + 100, 115 + 10 + 100, 215 + 10 + 100]
    assert world.waiting() == 15 + 300 - 10
