"""F1 to F3: a process is killed at every step that leaves something behind, under load.

Both reconcilers, a worker of each of two kinds and the ingress die at the same time, each at its
own place, are back at once and die there again. Nothing that was accepted is lost, no job has two
results, none is called more often than allowed, and a key is one job although its caller repeated
what was not answered.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from forebay.crashpoints import CrashPoint
from forebay.errors import ErrorCode
from forebay.jobs import Job, JobState

from .conftest import Rows
from .crash_world import (
    COLUMNS,
    CREW,
    QUICK_LOOPS,
    TOLD,
    CrashCallers,
    Crasher,
    Hits,
    Sort,
    jobs_by_key,
)
from .report import Row
from .scene import Scene, check, record, scene

SHORT, LONG = 1, 30
PER_SECOND = 12
PLACES = {place.point: column.fault for column in COLUMNS for place in column.places}


@pytest.fixture
def times(request: pytest.FixtureRequest, long: bool) -> int:
    """How often each fault is injected."""
    return request.config.getoption("--count") or (LONG if long else SHORT)


def test_every_registered_place_is_one_at_which_we_die() -> None:
    places = [place.point for column in (*COLUMNS, *TOLD) for place in column.places]
    assert sorted(places) == sorted(CrashPoint)


@pytest.mark.timeout(7200)
async def test_whoever_dies_at_whatever_step_nothing_is_lost_and_nothing_happens_twice(
    tmp_path: Path, rows: Rows, seed: int, times: int
) -> None:
    kept = {point: rows(fault, f"killed at {point}") for point, fault in PLACES.items()}
    hits = Hits(tmp_path / "hits")
    async with scene(tmp_path, seed=seed, crew=CREW, callers=CrashCallers, **QUICK_LOOPS) as here:
        crasher = Crasher(here, hits, random.Random(seed), kept)
        async with here.load(PER_SECOND):
            here.callers.wanted[Sort.OVERDUE] += 1
            await crasher.run(COLUMNS, times)
        audit = await here.settled(within_s=300)
        by_key = await jobs_by_key(here)
        doubled = [key for key, jobs in by_key.items() if jobs > 1]
        for row in kept.values():
            jobs = row.jobs
            record(row, here, audit)
            row.duplicates += len(doubled)
            row.jobs = jobs  # those that were accepted while this place was armed
        jobs = await here.store.look_up([*here.callers.ledger.accepted.values()])
        failed_well(jobs)
        assert doubled == []
        # I9: who is told that it came too late has no job, not even one of an unknown answer.
        assert [key for key in here.callers.too_late if by_key[key]] == []
        all_died(here, hits, kept, times)
        check(here, audit)
        for row in kept.values():
            row.survived = row.injected


def failed_well(jobs: list[Job]) -> None:
    """A job fails here only when its attempts are used up, and then all of them are."""
    failed = [job for job in jobs if job.state is JobState.FAILED]
    for job in failed:
        assert job.error is not None
        assert job.error.code is ErrorCode.ATTEMPTS_EXHAUSTED, job
        assert job.attempts == job.max_attempts
        assert job.dead_lettered
    assert Counter(job.state for job in jobs)[JobState.SUCCEEDED] > len(jobs) / 4


def all_died(here: Scene, hits: Hits, kept: dict[CrashPoint, Row], times: int) -> None:
    """Every place was hit, and everyone who wrote that he dies there did."""
    for point in kept:
        assert hits.of(point) >= times, point
    pids = [pid for _, pid in hits.lines()]
    assert len(set(pids)) == len(pids)
    for column in COLUMNS:
        at_home = {str(place.point) for place in column.places}
        here_died = sum(1 for point, _ in hits.lines() if point in at_home)
        ends = Counter(end for name in column.processes for end in here.stack.endings(name))
        assert ends["SIGKILL"] >= here_died
        assert set(ends) == {"SIGKILL"}, ends
