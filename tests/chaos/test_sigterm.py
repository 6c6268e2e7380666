"""F18: a SIGTERM that comes at the very step where a crash would hurt most.

Whoever is told to end at such a step drains: it finishes what it holds, says what it did, and exits
0. No call is cut, and nothing is lost.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from forebay.crashpoints import Action, CrashPoint
from tests.e2e.worker_settings import of_workers

from .conftest import Rows
from .crash_world import COLUMNS, CREW, QUICK_LOOPS, Column, CrashCallers, Crasher, Hits, Sort
from .own_jobs import calls_cut
from .process_logs import log_lines
from .scene import Scene, check, record, scene

LONG, SAMPLED = 10, 2
PER_SECOND = 12
GRACE_S, HAND_BACK_S = 30.0, 5.0
"""The default of every worker, and what handing back may take after it."""
GRACE = of_workers(GRACE_S=GRACE_S)
# Who drains leaves nothing behind that the pruner could find.
STEPS = tuple(
    replace(
        column,
        places=tuple(p for p in column.places if p.point is not CrashPoint.PRUNER_AFTER_LOOK),
    )
    for column in COLUMNS
)
PROCESSES = {name for column in STEPS for name in column.processes}
WORKERS = ("search_worker", "llm_worker")


@pytest.mark.long_only("two minutes, and the rolling restart ends every process in order too")
@pytest.mark.timeout(7200)
async def test_a_sigterm_at_any_step_ends_in_a_drain_that_cuts_no_call_and_loses_nothing(
    tmp_path: Path, rows: Rows, seed: int, long: bool
) -> None:
    times, chance = LONG if long else 1, random.Random(seed)
    columns = STEPS if long else tuple(sample(column, chance) for column in STEPS)
    places = {place.point: column for column in columns for place in column.places}
    kept = {point: rows("F18", f"SIGTERM at {point}") for point in places}
    hits = Hits(tmp_path / "hits")
    async with scene(
        tmp_path, seed=seed, crew=CREW, callers=CrashCallers, **QUICK_LOOPS, **GRACE
    ) as here:
        crasher = Crasher(here, hits, chance, kept, Action.TERM)
        async with here.load(PER_SECOND):
            here.callers.wanted[Sort.OVERDUE] += 1
            await crasher.run(columns, times)
        audit = await here.settled(within_s=300)
        cut = await calls_cut(here)
        for point, row in kept.items():
            jobs = row.jobs
            record(row, here, audit)
            row.jobs = jobs  # those that were accepted while this place was armed
            row.figures["drain_s_max"] = longest_drain_s(here, places[point].processes)
        for name in PROCESSES:
            assert set(here.stack.endings(name)) == {"exit code 0"}, name
        for name in WORKERS:
            drained = [*log_lines(here.stack.log(name), "process.drained")]
            assert len(drained) >= times * sum(name in c.processes for c in places.values())
            assert [one for one in drained if one["aborted"]] == []
        assert (cut["search"], cut["llm"]) == (0, 0)
        assert max(row.figures["drain_s_max"] for row in kept.values()) < GRACE_S + HAND_BACK_S
        check(here, audit)
        for row in kept.values():
            row.survived = row.injected


def sample(column: Column, chance: random.Random) -> Column:
    """Some places of a column, in their order."""
    chosen = chance.sample(column.places, SAMPLED)
    return replace(column, places=tuple(place for place in column.places if place in chosen))


def longest_drain_s(here: Scene, processes: tuple[str, ...]) -> float:
    """From the begin of the drain to the end of the process, the longest of all its lives."""
    longest = 0.0
    for name in processes:
        begins = [*log_lines(here.stack.log(name), "process.stopping")]
        ends = [*log_lines(here.stack.log(name), "process.stopped")]
        assert len(begins) == len(ends)
        longest = max([longest, *(_at(e) - _at(b) for b, e in zip(begins, ends, strict=True))])
    return round(longest, 2)


def _at(line: dict[str, str]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
