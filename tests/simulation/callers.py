"""The callers: what they submit, how they repeat it, and what they were answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from forebay.jobs import Idempotency, Job, JobKind
from forebay.store.memory import MemoryJobStore
from ingress.problems import PROBLEMS, RequestRefused
from ingress.schemas import JOB_SUBMISSION
from ingress.submission import Accepted, Origin

from .roles import Ingress

if TYPE_CHECKING:
    from .world import World

TENANT = "t"
PATIENCE_S = 4.0
TRIES = 4
INPUTS: dict[str, Any] = {
    JobKind.SEARCH: {"query": "hydro"},
    JobKind.LLM: {"model": "small", "messages": [{"role": "user", "content": "hello"}]},
}


@dataclass
class Wish:
    """What one caller wants, and what it heard."""

    kind: JobKind
    key: str | None
    options: dict[str, Any]
    answers: list[Job] = field(default_factory=list)
    """The job of each 202 or 200."""


class Callers:
    """All of them; each submits one job, perhaps several times, perhaps twice at once."""

    def __init__(self, world: World, chance: Random) -> None:
        self.wishes: list[Wish] = []
        self._world = world
        self._chance = chance
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, count: int, within_s: float) -> None:
        """Let so many come within that time."""
        for n in range(count):
            come = self._come(n, self._chance.uniform(0, within_s))
            self._tasks.append(self._world.spawn(come, f"caller {n}"))

    async def ended(self) -> None:
        """Wait until each is satisfied or gave up."""
        await asyncio.gather(*self._tasks)

    async def _come(self, n: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        wish = self._wish(n)
        self.wishes.append(wish)
        together = 2 if wish.key and self._chance.random() < 0.15 else 1
        await asyncio.gather(*(self._insist(wish) for _ in range(together)))
        if wish.key and wish.answers and self._chance.random() < 0.3:
            self._world.injected["caller: asks again"] += 1
            await self._insist(wish)

    def _wish(self, n: int) -> Wish:
        chance = self._chance
        kind = chance.choice([JobKind.SEARCH, JobKind.SEARCH, JobKind.LLM])
        options: dict[str, Any] = {"retry": {"max_attempts": chance.randint(1, 4)}}
        options["lane"] = chance.choice(["default", "default", "interactive", "bulk"])
        if chance.random() < 0.15:
            options["retry"]["on_unknown"] = "fail"
        if chance.random() < 0.3:
            options["webhook"] = {"url": "https://example.com/hook"}
        now = self._world.clock()
        least_s = 0.0
        limits = {"not_before": (0.2, 0.0, 12.0), "start_by": (0.2, 0.3, 8.0)}
        for name, (share, *span_s) in {**limits, "deadline": (0.2, 1.0, 20.0)}.items():
            if chance.random() < share:
                least_s += chance.uniform(*span_s)
                options[name] = (now + timedelta(seconds=least_s)).isoformat()
        return Wish(kind, f"key{n}" if chance.random() < 0.7 else None, options)

    async def _insist(self, wish: Wish) -> None:
        """Ask until there is an answer; without a key an unknown answer is the end."""
        for _ in range(TRIES):
            said = await self._ask(wish)
            if isinstance(said, Accepted):
                self._heard(wish, said.job)
                return
            if isinstance(said, RequestRefused) and PROBLEMS[said.code].status < 500:
                return
            if wish.key is None:
                return
            self._world.injected["caller: repeats after an unknown answer"] += 1
            await asyncio.sleep(self._chance.uniform(0.1, 3.0))

    async def _ask(self, wish: Wish) -> Any:
        world = self._world
        ingresses = [ingress for ingress in world.running(Ingress) if ingress.serving]
        if not ingresses:
            return None
        submission = JOB_SUBMISSION.validate_python(
            {"kind": wish.kind, "input": INPUTS[wish.kind], **wish.options}
        )
        key = None if wish.key is None else Idempotency(wish.key, "same body")
        answer = world.loop.create_future()
        faulty = world.faults and not world.fates.calm
        unheard = faulty and self._chance.random() < 0.05
        hear = (lambda _: None) if unheard else (lambda said: self._arrive(answer, said))
        ingress = self._chance.choice(ingresses)
        request = ingress.accept(submission, Origin(TENANT, idempotency=key), hear)
        if faulty and self._chance.random() < 0.05:
            world.injected["caller: hangs up"] += 1
            world.loop.call_later(self._chance.uniform(0, 0.02), request.cancel)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        except TimeoutError:
            return None

    def _arrive(self, answer: asyncio.Future[Any], said: Any) -> None:
        """From the ingress's step into the caller's."""

        def hear() -> None:
            if not answer.done():
                answer.set_result(said)

        self._world.loop.call_soon(hear, context=self._world.context)

    def _heard(self, wish: Wish, job: Job) -> None:
        world = self._world
        name = world.name_of(job.id)
        world.note(f"a caller hears of {name}")
        wish.answers.append(job)
        if world.store.look(job.id) is None:
            world.violate(f"{name} was answered 202 and is not in the store (I2)")


async def replay(store: MemoryJobStore, ingress: Ingress | None, job: Job) -> None:
    """What an operator's retry of a terminal job does."""
    again = await store.retry(job.tenant, job.id)
    if again is not None and ingress is not None:
        ingress.replay(again)
