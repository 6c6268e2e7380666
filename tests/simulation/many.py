"""Many histories, one after the other, and what they come to together."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from .history import History, play

APART = 1_000_000
"""Seeds of histories begin at the run's seed times this, so that two runs share none."""
WORTH_A_POOL = 1_000
"""Fewer are played in this process: starting others takes seconds."""
AT_ONCE = 25


@dataclass
class Tally:
    """What several histories come to."""

    histories: int = 0
    void: int = 0
    jobs: int = 0
    letters: int = 0
    steps: int = 0
    missed: int = 0
    hours: float = 0.0
    """Of their own time."""
    slowest_quiet_s: float = 0.0
    seconds: float = 0.0
    """Of our time."""
    injected: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)
    """By the history's seed."""

    def add(self, one: History) -> None:
        """Count a history."""
        self.histories += 1
        self.void += one.void
        self.jobs += one.jobs
        self.letters += one.letters
        self.steps += one.steps
        self.missed += one.missed
        self.hours += one.seconds / 3600
        self.slowest_quiet_s = max(self.slowest_quiet_s, one.quiet_after_s)
        self.injected += one.injected
        if one.violations:
            self.violations[one.seed] = one.violations

    def merge(self, other: Tally) -> None:
        """Count what another process played."""
        self.histories += other.histories
        self.void += other.void
        self.jobs += other.jobs
        self.letters += other.letters
        self.steps += other.steps
        self.missed += other.missed
        self.hours += other.hours
        self.slowest_quiet_s = max(self.slowest_quiet_s, other.slowest_quiet_s)
        self.injected += other.injected
        self.violations |= other.violations

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield (
            f"{self.histories} histories, {self.void} void, {self.jobs} jobs, {self.letters} dead "
            f"letters, {self.steps} steps, {self.hours:.1f} hours of their time in "
            f"{self.seconds:.0f} s of ours"
        )
        yield (
            f"{len(self.violations)} with violations; rate below {3 / max(self.histories, 1):.3%} "
            "if there is none (rule of three)"
        )
        yield f"at rest at most {self.slowest_quiet_s:.1f} s after the last fault"
        yield f"{self.injected.total()} faults injected, {self.missed} found no moment:"
        for kind, count in sorted(self.injected.items()):
            yield f"  {count:8} {kind}"
        for seed, said in [*self.violations.items()][:20]:
            yield f"  --replay={seed}: {said[0]}"


def play_many(seed: int, count: int, *, first_failure: bool = False) -> Tally:
    """Play so many histories of a seed; with `first_failure` the first that fails is the last."""
    began = time.monotonic()
    seeds = range(seed * APART, seed * APART + count)
    several = count >= WORTH_A_POOL and not first_failure
    tally = _in_processes(seeds) if several else _play(seeds, first_failure)
    tally.seconds = time.monotonic() - began
    return tally


def _play(seeds: Iterable[int], first_failure: bool) -> Tally:
    tally = Tally()
    for number, seed in enumerate(seeds):
        tally.add(play(seed))
        if tally.violations and first_failure:
            return tally
        if number % AT_ONCE == AT_ONCE - 1:
            gc.collect()
    return tally


def _in_processes(seeds: range) -> Tally:
    tally = Tally()
    parts = [seeds[start : start + AT_ONCE] for start in range(0, len(seeds), AT_ONCE)]
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fresh) as pool:
        for part in pool.map(_play, parts, [False] * len(parts)):
            tally.merge(part)
    return tally
