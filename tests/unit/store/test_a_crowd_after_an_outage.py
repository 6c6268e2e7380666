"""The group commit under a crowd that was refused while the store stood still, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import quantiles

import pytest

from forebay.errors import StoreOverloaded, StoreUnavailable
from forebay.jobs import Job
from forebay.store import InsertResult
from forebay.store.group_commit import GroupCommit, PendingLimits
from forebay.store.memory import MemoryJobStore
from tests.contract.store.jobs import a_job
from tests.simulation.virtual_loop import VirtualLoop

ACCEPT_TIMEOUT_S = 2.5
STORE_TIMEOUT_S = 2.5
STANDS_STILL = 10.0, 40.0
ENDS = 70.0


class SlowStore(MemoryJobStore):
    """Takes a little for each batch and each job, and stands still for a while."""

    def __init__(self, per_job_s: float) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self._per_job_s = per_job_s

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        now = asyncio.get_running_loop().time()
        begins = STANDS_STILL[1] if STANDS_STILL[0] <= now < STANDS_STILL[1] else now
        takes_s = begins - now + 0.02 + self._per_job_s * len(jobs)
        if takes_s > STORE_TIMEOUT_S:
            await asyncio.sleep(STORE_TIMEOUT_S)
            raise StoreUnavailable
        await asyncio.sleep(takes_s)
        return await super().insert(jobs)


@dataclass
class Crowd:
    """Callers at a steady rate; who is refused comes back one to five seconds later."""

    commit: GroupCommit
    chance: random.Random
    accepted: list[tuple[float, float]] = field(default_factory=list)
    """When each came for the first time, and when it was accepted."""
    refusals: list[tuple[float, float]] = field(default_factory=list)
    """When each was asked, and when it was refused."""

    async def come(self, per_second: float) -> None:
        """Until the end."""
        loop = asyncio.get_running_loop()
        callers = []
        while loop.time() < ENDS:
            callers.append(asyncio.create_task(self._insist(), name="caller"))
            await asyncio.sleep(1 / per_second)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    async def _insist(self) -> None:
        loop = asyncio.get_running_loop()
        came, job = loop.time(), a_job()
        while True:
            asked = loop.time()
            try:
                async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                    await self.commit.insert(job)
            except (StoreUnavailable, StoreOverloaded, TimeoutError):
                self.refusals.append((asked, loop.time()))
                await asyncio.sleep(1 + self.chance.random() * 4)
            else:
                self.accepted.append((came, loop.time()))
                return


@pytest.mark.parametrize(("per_second", "per_job_s"), [(40, 0.005), (60, 0.005), (20, 0.01)])
def test_everybody_is_accepted_soon_after_the_store_is_back(
    per_second: float, per_job_s: float
) -> None:
    async def history() -> Crowd:
        limits = PendingLimits(answer_within_s=ACCEPT_TIMEOUT_S)
        async with GroupCommit(SlowStore(per_job_s), limits=limits) as commit:
            crowd = Crowd(commit, random.Random(1))
            await crowd.come(per_second)
            return crowd

    crowd = VirtualLoop().run(history())
    back = STANDS_STILL[1]
    refused = [at for came, at in crowd.accepted if STANDS_STILL[0] <= came < back]
    assert len(refused) > 25 * per_second
    # At the store's pace the crowd of 60 a second takes 13 s to be written, beside those who come.
    assert max(refused) < back + 20
    # And then it is as it was before.
    calm = [at - came for came, at in crowd.accepted if back + 22 < came < ENDS - 5]
    assert max(calm) < 1
    took = [refused_at - asked for asked, refused_at in crowd.refusals]
    assert max(took) <= ACCEPT_TIMEOUT_S + 0.001
    # Once it is known that the store stands still nearly everybody hears so at once.
    known = STANDS_STILL[0] + 2 * STORE_TIMEOUT_S
    meanwhile = [at - asked for asked, at in crowd.refusals if known < asked < back]
    assert quantiles(meanwhile, n=10)[7] == 0
