"""How quickly the queues are worked off, as processes tell each other."""

from __future__ import annotations

import asyncio

from forebay.jobs import JobKind, Lane
from forebay.pace import Pace
from forebay.store.paces import PaceStore

BULK = (JobKind.SEARCH, Lane.BULK)
LLM = (JobKind.LLM, Lane.DEFAULT)


async def test_what_many_workers_ended_is_counted_together(paces: PaceStore) -> None:
    assert await paces.ended() == {}
    await paces.add_ended({})
    await asyncio.gather(*(paces.add_ended({BULK: 2, LLM: 1}) for _ in range(10)))
    assert await paces.ended() == {BULK: 20, LLM: 10}


async def test_what_is_told_replaces_what_was_told_before(paces: PaceStore) -> None:
    assert await paces.told() is None
    first = [Pace(*BULK, waiting=7, oldest_s=1.5, per_s=0.25), Pace(*LLM, 0, 0.0, None)]
    await paces.tell(first)
    told = await paces.told()
    assert told is not None
    assert told.paces == first
    await paces.tell(first[:1])
    after = await paces.told()
    assert after is not None
    assert after.paces == first[:1]
    assert after.turn > told.turn
