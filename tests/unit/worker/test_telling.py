"""What a worker says of the jobs in its hands, and to whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from forebay.jobs import Job
from forebay.outcomes import Outcome
from forebay.progress import Ask, Moved, Output
from forebay.worker.telling import MOST_IN_ONE

from .conftest import DONE

if TYPE_CHECKING:
    from .conftest import Rig


async def test_a_job_is_said_to_move_when_it_is_claimed_and_when_it_has_its_end(rig: Rig) -> None:
    async with rig.working():
        await rig.submit()
        await rig.settled()
    assert rig.live.said == [Moved("job_1", done=False), Moved("job_1", done=True)]


async def test_output_that_nobody_asks_for_is_not_said(rig: Rig) -> None:
    async def answer(_: Job) -> Outcome:
        rig.handler.write("a word")
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    assert [word for word in rig.live.said if isinstance(word, Output)] == []


async def test_who_asks_is_told_from_there_on_and_then_all_that_comes(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def answer(_: Job) -> Outcome:
        rig.handler.write("one ")
        rig.handler.write("two ")
        rig.telling.heard([Ask("job_1", 2), Ask("another", 0)])
        await go_on.wait()
        rig.handler.write("three")
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.called()
        go_on.set()
        await rig.settled()
    told = [word for word in rig.live.said if isinstance(word, Output)]
    assert told == [Output("job_1", 1, 2, "e two "), Output("job_1", 1, 8, "three")]


async def test_a_long_output_is_told_again_in_pieces(rig: Rig) -> None:
    async def answer(_: Job) -> Outcome:
        rig.handler.write("x" * (MOST_IN_ONE + 1))
        rig.telling.heard([Ask("job_1", 0)])
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
    told = [word for word in rig.live.said if isinstance(word, Output)]
    assert [(word.offset, len(word.text)) for word in told] == [(0, MOST_IN_ONE), (MOST_IN_ONE, 1)]


async def test_a_call_that_is_over_has_nothing_to_tell(rig: Rig) -> None:
    async def answer(_: Job) -> Outcome:
        rig.handler.write("a word")
        return DONE

    rig.handler.answer = answer
    async with rig.working():
        await rig.submit()
        await rig.settled()
        rig.telling.heard([Ask("job_1", 0)])
    assert [word for word in rig.live.said if isinstance(word, Output)] == []
