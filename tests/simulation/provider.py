"""The provider: what it was asked, and the many ways in which it answers."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Attempt, Job
from forebay.outcomes import Call, Failed, Outcome, Retry, Snooze, Succeeded
from forebay.progress import Write
from forebay.store.results import INLINE_BYTES

from .virtual_loop import SimProcess

if TYPE_CHECKING:
    from .world import World

LEASE_S = 3.0
LONGEST_CALL_S = 8 * LEASE_S
TIME_LIMIT_S = 10 * LEASE_S
MANNERS = ("ok", "slow", "busy", "fails", "snooze", "large", "raises", "hangs", "kills")
USUAL = (10.0, 3.0, 4.0, 1.0, 1.0, 1.0)
"""How often each, but for those that only a faulty history has."""


class PlannedDefect(Exception):
    """A handler that raises, as none should."""


@dataclass(frozen=True)
class Asked:
    """One call that reached the provider."""

    at: float
    job_id: str
    generation: int
    n: int
    state: str
    """Of the job in the store at that moment."""
    token: str


class Provider:
    """One provider for all kinds."""

    def __init__(self, world: World, chance: Random) -> None:
        self.calls: list[Asked] = []
        self._world = world
        self._chance = chance
        self.deadly = world.faults and chance.random() < 0.15
        """Whether several jobs kill their workers, often enough to meet in one."""
        kills, self._poisonous = (6.0, 0.8) if self.deadly else (0.5, 0.3)
        self._weights = [*USUAL, *((0.5, 0.2, kills) if world.faults else (0.0, 0.0, 0.0))]
        self._poisons: set[str] = set()
        self._in_hand: defaultdict[SimProcess, list[Job]] = defaultdict(list)
        """The calls of each process, as they were claimed."""
        self.killed_by: dict[tuple[str, int, int], tuple[str, int]] = {}
        """For an attempt that was lost beside a poison: the poison, and its generation."""

    async def call(self, job: Job, process: SimProcess) -> Outcome:
        """What the handler of a worker does for a job."""
        world = self._world
        if world.fates.calm:
            return await self._answer(self._asked(job, process), 0.1)
        manner = self._manner(job)
        world.injected[f"provider: {manner}"] += manner != "ok"
        if manner == "snooze":
            return Snooze(self._chance.uniform(0.1, 6.0), "closed for now")
        with self._at_work(job, process):
            return await self._work(job, process, manner)

    async def _work(self, job: Job, process: SimProcess, manner: str) -> Outcome:
        asked = self._asked(job, process)
        takes_s = self._chance.uniform(0.02, 1.0)
        match manner:
            case "slow":
                return await self._answer(asked, self._chance.uniform(LEASE_S, LONGEST_CALL_S))
            case "hangs":
                await asyncio.sleep(10 * TIME_LIMIT_S)
            case "kills":
                await asyncio.sleep(takes_s)
                self._note_neighbors(job, process)
                self._world.kill(process)
                await self._world.loop.create_future()
            case "raises":
                raise PlannedDefect
        return await self._answer(asked, takes_s, manner)

    def _manner(self, job: Job) -> str:
        if job.id in self._poisons:
            return "kills"
        manner = self._chance.choices(MANNERS, self._weights)[0]
        if manner == "kills" and self._chance.random() < self._poisonous:
            self._poisons.add(job.id)
        return manner

    @contextmanager
    def _at_work(self, job: Job, process: SimProcess) -> Iterator[None]:
        """One suspect at a time: what may kill its worker must not run beside another such job."""
        here = self._in_hand[process]
        here.append(job)
        suspects = [self._world.name_of(one.id) for one in here if _suspect(one)]
        if _suspect(job) and len(suspects) > 1:
            self._world.violate(f"{' and '.join(suspects)} in one worker may kill it together")
        try:
            yield
        finally:
            here.remove(job)

    def _note_neighbors(self, job: Job, process: SimProcess) -> None:
        if job.id in self._poisons:
            for other in self._in_hand[process]:
                if other.id != job.id:
                    lost = (other.id, other.generation, other.attempts)
                    self.killed_by[lost] = (job.id, job.generation)

    def _asked(self, job: Job, process: SimProcess) -> Asked:
        stored = self._world.store.look(job.id)
        token = job.lease.token if job.lease else ""
        state = "gone" if stored is None else stored.state.value
        asked = Asked(self._world.loop.time(), job.id, job.generation, job.attempts, state, token)
        self.calls.append(asked)
        name = self._world.name_of(job.id)
        self._world.note(f"{process.name} calls for {name}, attempt {job.attempts}")
        return asked

    async def _answer(self, asked: Asked, takes_s: float, how: str = "ok") -> Outcome:
        await asyncio.sleep(takes_s)
        call = Call("acme", 200)
        if how == "busy":
            wish = self._chance.choice([None, None, 0.5, 2.0])
            error = JobError(ErrorCode.PROVIDER_ERROR, "busy", retryable=True, retry_after_s=wish)
            return Retry(error, call)
        if how == "fails":
            return Failed(JobError(ErrorCode.PROVIDER_REJECTED, "no"), call)
        result = {"generation": asked.generation, "n": asked.n}
        if how == "large":
            result["filling"] = "x" * (INLINE_BYTES + 1)  # type: ignore[assignment]
        return Succeeded(json.dumps(result), call)


def lost_in_a_row(history: Sequence[Attempt]) -> Sequence[Attempt]:
    """The latest attempts, if their workers were gone; those that say nothing are passed over."""
    telling = [one for one in history if one.outcome not in {"snoozed", "handed_back"}]
    lost = itertools.takewhile(lambda one: one.outcome == "lease_lost", reversed(telling))
    return [*lost]


def _suspect(job: Job) -> bool:
    """Whether the job, as it was claimed, may be what killed its last workers."""
    last = job.attempts == job.max_attempts
    return len(lost_in_a_row(job.history)) >= (1 if last else 2)


class SimHandler:
    """The handler of one worker process."""

    def __init__(self, provider: Provider, process: SimProcess) -> None:
        self._provider = provider
        self._process = process

    async def handle(self, job: Job, request: Any, _: Write, /) -> Outcome:
        """See `Handler.handle`."""
        del request
        return await self._provider.call(job, self._process)
