"""The provider: what it was asked, and the many ways in which it answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Job
from forebay.outcomes import Call, Failed, Outcome, Retry, Snooze, Succeeded
from forebay.store.results import INLINE_BYTES

from .virtual_loop import SimProcess

if TYPE_CHECKING:
    from .world import World

LEASE_S = 3.0
LONGEST_CALL_S = 8 * LEASE_S
TIME_LIMIT_S = 10 * LEASE_S


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
        self._poisons: set[str] = set()

    async def call(self, job: Job, process: SimProcess) -> Outcome:
        """What the handler of a worker does for a job."""
        world = self._world
        if world.fates.calm:
            return await self._answer(self._asked(job, process), 0.1)
        manner = self._manner(job)
        world.injected[f"provider: {manner}"] += manner != "ok"
        if manner == "snooze":
            return Snooze(self._chance.uniform(0.1, 6.0), "closed for now")
        asked = self._asked(job, process)
        takes_s = self._chance.uniform(0.02, 1.0)
        match manner:
            case "slow":
                return await self._answer(asked, self._chance.uniform(LEASE_S, LONGEST_CALL_S))
            case "hangs":
                await asyncio.sleep(10 * TIME_LIMIT_S)
            case "kills":
                await asyncio.sleep(takes_s)
                world.kill(process)
                await world.loop.create_future()
            case "raises":
                raise PlannedDefect
        return await self._answer(asked, takes_s, manner)

    def _manner(self, job: Job) -> str:
        if job.id in self._poisons:
            return "kills"
        manner = self._chance.choices(
            ["ok", "slow", "busy", "fails", "snooze", "large", "raises", "hangs", "kills"],
            [10, 3, 4, 1, 1, 1, *([0.5, 0.2, 0.5] if self._world.faults else [0, 0, 0])],
        )[0]
        if manner == "kills" and self._chance.random() < 0.3:
            self._poisons.add(job.id)
        return manner

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


class SimHandler:
    """The handler of one worker process."""

    def __init__(self, provider: Provider, process: SimProcess) -> None:
        self._provider = provider
        self._process = process

    async def handle(self, job: Job, request: Any) -> Outcome:
        """See `Handler.handle`."""
        del request
        return await self._provider.call(job, self._process)
