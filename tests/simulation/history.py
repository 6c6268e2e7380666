"""One history: a world, faults for a while, then quiet, then the verdict. All from one seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import stamina

from .callers import Callers
from .judge import breaches, unsettled
from .script import Script
from .virtual_loop import Stuck, VirtualLoop
from .world import World

QUIET_WITHIN_S = 120.0
"""By then everything must have come to its end: a call's time limit (30 s), the longest rest of a
queue that refused (30 s), what counts as lost (8 s), the backoffs of four attempts (4 s each)."""
MOST_STEPS = 2_000_000
"""More is a hot loop."""


@dataclass(frozen=True)
class History:
    """What came of one seed."""

    seed: int
    jobs: int
    leases_lost: int
    letters: int
    """Dead letters that were sent for jobs whose attempts ran out."""
    steps: int
    seconds: float
    """Of its own time, until all was quiet."""
    quiet_after_s: float
    """From the last fault to the last job's end."""
    injected: Counter[str]
    missed: int
    violations: list[str]
    fingerprint: str
    trace: list[str]

    @property
    def void(self) -> bool:
        """Whether no fault took effect, so that it proves nothing."""
        return not self.injected.total()


def play(seed: int, *, faults: bool = True) -> History:
    """Play the history of a seed, always the same; without `faults` only the provider is odd."""
    before = random.getstate()
    random.seed(seed)
    stamina.instrumentation.set_on_retry_hooks([])
    loop = VirtualLoop()
    try:
        return loop.run(_history(seed, loop, faults))
    finally:
        random.setstate(before)
        stamina.instrumentation.set_on_retry_hooks(None)


async def _history(seed: int, loop: VirtualLoop, faults: bool) -> History:
    world = World(seed, loop, faults=faults)
    chance = random.Random(f"{seed}/history")
    faulty_s = chance.uniform(8.0, 30.0)
    callers = Callers(world, random.Random(f"{seed}/callers"))
    script = Script(world, random.Random(f"{seed}/script"))
    if faults and chance.random() < 0.3:
        world.broker.delivery_limit = 2
    world.begin()
    if world.provider.deadly:
        callers.begin(chance.randint(10, 16), 2.0)
    else:
        callers.begin(chance.randint(2, 10), faulty_s * 0.8)
    script.begin(chance.randint(1, 8) if faults else 0, faulty_s * 0.9)
    await asyncio.sleep(faulty_s)
    world.note("the faults end")
    world.fates.calm = True
    await script.ended()
    await callers.ended()
    quiet_since = loop.time()
    await _quiet(world)
    quiet_after_s = loop.time() - quiet_since
    for breach in breaches(world, callers):
        world.violate(breach)
    world.closed = True
    lost = [a for job in world.store.all() for a in job.history if a.outcome == "lease_lost"]
    violations, trace, steps = [*world.violations], [*world.trace], loop.steps
    fingerprint, seconds = world.fingerprint, loop.time()
    await _bury(world)
    return History(
        seed,
        len(world.store.all()),
        len(lost),
        world.letters.sent,
        steps,
        seconds,
        quiet_after_s,
        +world.injected,
        script.missed,
        violations,
        fingerprint,
        trace,
    )


async def _quiet(world: World) -> None:
    """Wait until nothing is left to do."""
    until = world.loop.time() + QUIET_WITHIN_S
    while left := unsettled(world):
        if world.loop.time() > until:
            world.violate(
                f"not at rest {QUIET_WITHIN_S:g} s after the last fault (I1, I10): {left}"
            )
            return
        if world.loop.steps > MOST_STEPS:
            world.violate("a hot loop")
            return
        await asyncio.sleep(0.25)


async def _bury(world: World) -> None:
    """Let the dead go on to their end, now that it means nothing any more."""
    for process in world.processes:
        process.dead = process.frozen = False
        process.go_on()
    try:
        await world.loop.bury()
    except Stuck as stuck:
        world.violations.append(str(stuck))
