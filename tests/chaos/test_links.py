"""I1 to I4, I7: every link between two parts is harmed in every way, under load (F13)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.audit.ledger import read_ledger
from forebay.audit.verdict import Audit
from forebay.jobs import Lane
from forebay.local.environment import Crew
from forebay.tasks import end
from forebay.testing.polling import pace
from tests.e2e.callers import Callers
from tests.e2e.worker_settings import of_workers

from .conftest import Rows
from .links import NAMES, Links, linked
from .own_jobs import enter, llm, search
from .patient_callers import passed
from .prober import Probe, Prober, probing
from .proxy import Fault
from .report import Row
from .scene import Scene, check, scene

READ = "read"
"""In the place of a key, of an answer to somebody who asked for a job."""
RATE = 40.0
"""Requests a second over the callers' link; ten more come from the prober."""
READS_A_SECOND = 5.0
ANSWERED_WITHIN_S = 5.0
RECOVERED_WITHIN_S = 30.0
WORKED_OFF_WITHIN_S = 90.0
"""What piled up in a minute; how fast that goes is a matter of the machine too."""
NOTICED_WITHIN_S = 60.0
"""From the beginning: a connection to RabbitMQ that fell silent and stays so is known as dead after
three heartbeats of 15 s. Only then can its messages go to others."""
ROBOTS_REMEMBERED_S = 35.0
"""A site whose robots.txt could not be had is left alone for half a minute and some jitter."""
WORKERS_ARE_TOLD = of_workers(TIMEOUT_S=5, CONCURRENCY=40, LEASE_S=5)
"""A call whose answer a black hole took must not hold its slot for a minute."""
QUICK_HEARTBEAT = {"FOREBAY_AMQP_HEARTBEAT_S": "2"}

Body = dict[str, Any]


@dataclass
class Strike:
    """One fault on one link, and what was seen of it."""

    link: str
    fault: Fault
    began_at: datetime
    began: float
    """This and the next on the machine's monotonic clock."""
    cleared: float = 0.0
    harmed: int = 0
    answered_again_s: float = 0.0
    """From the fault's end to a 202 for a fresh caller over the callers' link."""
    finished_again_s: float = 0.0
    """From the fault's end until a fresh interactive job of every kind, and one that the relay must
    publish, have their end."""
    worked_off_s: float = 0.0
    """The same for fresh jobs that wait behind all that piled up meanwhile."""
    wrong_answers: list[Probe] = field(default_factory=list)
    slowest_answer_s: float = 0.0
    jobs: int = 0
    """Accepted from its beginning to the next one's."""
    lost: set[str] = field(default_factory=set)
    """Of these, gone or without an end."""
    broken: set[str] = field(default_factory=set)
    """Jobs and keys of which another promise was broken."""

    @property
    def bound_s(self) -> float:
        """Within how long after its end everything must work again."""
        if self.fault is Fault.BLACK_HOLE and self.link.endswith("RabbitMQ"):
            lasted = self.cleared - self.began
            return max(RECOVERED_WITHIN_S, NOTICED_WITHIN_S - lasted)
        if self.link.endswith("providers"):
            return RECOVERED_WITHIN_S + ROBOTS_REMEMBERED_S
        return RECOVERED_WITHIN_S

    @property
    def held(self) -> bool:
        """Whether everything was as it must be."""
        recovered = max(self.answered_again_s, self.finished_again_s) <= self.bound_s
        worked_off = self.worked_off_s <= WORKED_OFF_WITHIN_S
        return recovered and worked_off and not (self.wrong_answers or self.lost or self.broken)

    def __str__(self) -> str:
        return (
            f"{self.fault} on {self.link}: answered {self.answered_again_s:.1f} s and finished "
            f"{self.finished_again_s:.1f} s after it ({self.bound_s:.0f}), worked off "
            f"{self.worked_off_s:.1f} s after it, slowest answer "
            f"{self.slowest_answer_s:.1f} s, {len(self.wrong_answers)} wrong ones as "
            f"{self.wrong_answers[:3]}, lost {sorted(self.lost)[:5]}, "
            f"broken {sorted(self.broken)[:5]}"
        )


class Harm:
    """Harms links one after the other, and sees each time that everything works again."""

    def __init__(
        self,
        here: Scene,
        links: Links,
        load: contextlib.AsyncExitStack,
        answers: Callable[[], list[Probe]],
    ) -> None:
        self.here = here
        self.strikes: list[Strike] = []
        self._links = links
        self._load = load
        self._answers = answers
        self._numbers = 0

    async def judged(self) -> Audit:
        """End the load, wait until all is quiet, and judge each strike and all together."""
        await self._load.aclose()
        answers = self._answers()
        enter(self.here, [one for one in answers if one.key != READ])
        audit = await self.here.settled()
        _judge_answers(self.strikes, answers)
        _judge_jobs(self.strikes, self.here, audit)
        return audit

    async def strike(self, name: str, fault: Fault, lasts_s: float) -> None:
        """One fault; returns when the system works again, or has not for long."""
        link = self._links.all[name]
        strike = Strike(name, fault, datetime.now(UTC), time.monotonic())
        self.strikes.append(strike)
        link.inject(fault)
        await passed(lasts_s)
        strike.harmed = link.harmed
        link.clear()
        strike.cleared = time.monotonic()
        async with self._links.fresh_callers() as fresh:
            urgent, others = await asyncio.gather(
                self._through_all(fresh, Lane.INTERACTIVE), self._through_all(fresh, Lane.DEFAULT)
            )
        accepted = [accepted for accepted, _ in (*urgent, *others)]
        strike.answered_again_s = max(accepted) - strike.cleared
        strike.finished_again_s = max(ended for _, ended in urgent) - strike.cleared
        strike.worked_off_s = max(ended for _, ended in others) - strike.cleared

    def _bodies(self) -> list[Body]:
        soon = datetime.now(UTC) + timedelta(seconds=1)
        for_the_relay = {**search(), "not_before": soon.isoformat()}
        page = {"kind": "crawl", "input": {"url": f"{self._links.site_url}/pages/7"}}
        return [search(), llm(), page, for_the_relay]

    async def _through_all(self, fresh: Callers, lane: Lane) -> list[tuple[float, float]]:
        bodies = ({**body, "lane": lane} for body in self._bodies())
        return await asyncio.gather(*(self._through(fresh, body) for body in bodies))

    async def _through(self, fresh: Callers, body: Body) -> tuple[float, float]:
        """When a job of a caller who was not there during the fault was accepted, and ended."""
        self._numbers += 1
        accepted = float("inf")
        try:
            job_id = await fresh.submit_to("/v1/jobs", body, f"fresh-{self._numbers}")
            accepted = time.monotonic()
            job = await fresh.wait(job_id)
            assert job["state"] == "succeeded", job["error"]
        except TimeoutError:  # far beyond the bound: the strike was not survived
            return min(accepted, time.monotonic()), time.monotonic()
        return accepted, time.monotonic()


@asynccontextmanager
async def reading(url: str, prober: Prober) -> AsyncIterator[list[Probe]]:
    """Ask for a job meanwhile, again and again; its link is well, like the prober's."""
    answers: list[Probe] = []
    first = await prober.first(lambda probe: probe.job_id is not None)
    timeout = aiohttp.ClientTimeout(total=3 * ANSWERED_WITHIN_S)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        asking = asyncio.create_task(_read(session, f"/v1/jobs/{first.job_id}", answers))
        try:
            yield answers
        finally:
            await end(asking)


async def _read(session: aiohttp.ClientSession, path: str, answers: list[Probe]) -> None:
    async for _ in pace(READS_A_SECOND, 10_000_000):
        sent, status, wait = time.monotonic(), 0, None
        try:
            async with session.get(path) as answer:
                await answer.read()
                status, wait = answer.status, answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # nothing came: status 0
        answers.append(Probe(READ, sent, time.monotonic() - sent, status, wait, None))


Plan = Sequence[tuple[str, Fault, float]]


def short_plan(chance: random.Random) -> Plan:
    """Four of the faults, each on another link."""
    pairs = zip(chance.sample(NAMES, 4), chance.sample([*Fault], 4), strict=True)
    return [(link, fault, 4.0) for link, fault in pairs]


def long_plan(chance: random.Random) -> Plan:
    """Every pair, and on every link a black hole that lasts longer than anybody's patience."""
    pairs = [(link, fault, chance.uniform(3, 10)) for link, fault in product(NAMES, Fault)]
    outlasting = [(link, Fault.BLACK_HOLE, 55.0) for link in NAMES]
    return chance.sample([*pairs, *outlasting], len(pairs) + len(outlasting))


@pytest.mark.timeout(6000)
async def test_links_that_are_harmed_in_every_way_lose_nothing_and_work_again(
    tmp_path: Path, rows: Rows, seed: int, long: bool
):
    chance = random.Random(seed)
    plan = long_plan(chance) if long else short_plan(chance)
    where = {fault: "every link" if long else link for link, fault, _ in plan}
    report = {fault: rows("F13", f"{fault}, {place}") for fault, place in where.items()}
    async with harming(tmp_path, seed, quick=not long) as harm:
        for link, fault, lasts_s in plan:
            await harm.strike(link, fault, lasts_s)
        audit = await harm.judged()
    for fault, row in report.items():
        _record(row, [one for one in harm.strikes if one.fault is fault], harm.here)
    check(harm.here, audit)
    assert not [str(one) for one in harm.strikes if not one.held]
    struck = {(one.link, one.fault) for one in harm.strikes if one.harmed}
    assert [(link, fault) for link, fault, _ in plan if (link, fault) not in struck] == []


@asynccontextmanager
async def harming(directory: Path, seed: int, *, quick: bool) -> AsyncIterator[Harm]:
    """A scene whose links can be harmed; under load until it is judged."""
    crew = Crew(pauses_s=(0.05, 0.05))
    async with (
        linked(directory, seed) as links,
        scene(
            directory,
            profile="demo",
            seed=seed,
            crew=crew,
            callers=links.callers,
            **WORKERS_ARE_TOLD,
            **(QUICK_HEARTBEAT if quick else {}),
        ) as here,
    ):
        await links.rewire(here)
        async with contextlib.AsyncExitStack() as load:
            prober = await load.enter_async_context(probing(here.stack.ingress_url, directory))
            reads = await load.enter_async_context(reading(here.stack.ingress_url, prober))
            await load.enter_async_context(here.load(RATE))
            yield Harm(here, links, load, lambda: [*prober.probes(), *reads])


def _judge_answers(strikes: Sequence[Strike], answers: Sequence[Probe]) -> None:
    """Whose own link is well must be answered rightly and soon, whatever happens elsewhere."""
    ends = [*(one.began for one in strikes[1:]), time.monotonic()]
    for strike, until in zip(strikes, ends, strict=True):
        probes = [one for one in answers if strike.began <= one.sent < until]
        strike.slowest_answer_s = max((probe.took_s for probe in probes), default=0.0)
        strike.wrong_answers = [probe for probe in probes if not _right(probe)]


def _right(probe: Probe) -> bool:
    if probe.took_s > ANSWERED_WITHIN_S:
        return False
    return probe.status in {200, 202} or (
        probe.status in {429, 503} and probe.retry_after is not None
    )


def _judge_jobs(strikes: Sequence[Strike], here: Scene, audit: Audit) -> None:
    """Lay each job, and what the audit found of it, at the fault in which it was accepted."""
    at: dict[str | None, Strike] = {}
    for answer in read_ledger(here.callers.ledger_path):
        if answer.accepted and answer.job_id not in at:
            strike = [strikes[0], *(one for one in strikes if one.began_at <= answer.at)][-1]
            strike.jobs += 1
            at[answer.job_id] = at[answer.key] = strike
    for lost in (*audit.open, *(one.name for one in audit.lost)):
        at[lost].lost.add(lost)
    for offender in (one for found in audit.broken.values() for one in found):
        at[offender.name].broken.add(offender.name)


def _record(row: Row, strikes: Sequence[Strike], here: Scene) -> None:
    row.versions = dict(here.versions)
    struck = [one for one in strikes if one.harmed]
    row.injected, row.void = len(struck), len(strikes) - len(struck)
    row.survived = sum(one.held for one in struck)
    row.jobs = sum(one.jobs for one in strikes)
    row.lost = sum(len(one.lost) for one in strikes)
    row.duplicates = sum(len(one.broken - one.lost) for one in strikes)
    row.figures = {
        f"{name}_max": round(max(getattr(one, name) for one in strikes), 1)
        for name in ("slowest_answer_s", "answered_again_s", "finished_again_s", "worked_off_s")
    }
    by_link: dict[str, float] = {}
    for one in strikes:
        by_link[one.link] = round(max(one.finished_again_s, by_link.get(one.link, 0.0)), 1)
    row.figures["finished_again_s_by_link"] = by_link
