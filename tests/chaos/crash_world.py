"""Killing processes at named places: who passes which place, what makes them pass it, who died.

A column is a group of processes that die at one place after the other; columns run side by side.
A process that died is back at once and dies there again, until the place was hit often enough.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
from pymongo import AsyncMongoClient

from forebay.audit.ledger import NO_ANSWER
from forebay.crashpoints import Action, CrashPoint
from forebay.local.environment import Crew
from forebay.settings import StoreSettings
from forebay.tasks import end
from forebay.testing.polling import pace, until
from ingress.problems import ProblemCode
from tests.e2e.callers import Callers
from tests.e2e.worker_settings import of_workers

from .own_jobs import in_flight
from .process_logs import log_lines
from .report import Row
from .scene import Scene

CREW = Crew(copies={"reconciler": 2}, pauses_s=(0.02, 0.02))
QUICK_LOOPS = {
    "FOREBAY_RECONCILER_RESCUER_EVERY_S": "0.2",
    "FOREBAY_RECONCILER_RELAY_EVERY_S": "0.2",
    "FOREBAY_RECONCILER_REFILLER_EVERY_S": "0.3",
    "FOREBAY_RECONCILER_PRUNER_EVERY_S": "0.3",
    "FOREBAY_RECONCILER_PUBLISH_AFTER_S": "1",
    "FOREBAY_RECONCILER_LOST_AFTER_S": "1.5",
    # The default, so that a death takes no more jobs along than it would.
    **of_workers(CONCURRENCY=20),
}
HIT_WITHIN_S = 180.0
"""From one death at a place to the next one, at most, on a busy machine."""
OVERDUE_AFTER_S = 12
MOST_AT_THE_DOOR = 40
"""Callers that try at the same time. Who finds so many does not ask: an ingress that dies every
other second accepts a handful between two deaths, and a queue at its door would only grow."""
LARGE = "x" * 270_000
"""As one word: the simulated model repeats the first words of a prompt in its answer."""


class Sort(StrEnum):
    """What a caller asks for, so that certain places are passed."""

    SEARCH = "search"
    CRAWL = "crawl"
    LLM = "llm"
    RETRIED = "retried"
    """Fails once, so that it waits for its time."""
    LONG = "long"
    """Its lease is renewed."""
    SLOW = "slow"
    """A crawl that is not over when its worker is killed."""
    DOOMED = "doomed"
    """Fails always, with two attempts."""
    LARGE = "large"
    """Its result is stored beside the job."""
    OVERDUE = "overdue"
    """Its deadline passes while it waits."""


USUAL = (Sort.SEARCH, Sort.CRAWL, Sort.LLM, Sort.RETRIED)


class TooLate(Exception):
    """The deadline passed before the job was accepted: there must be no job."""


class CrashCallers(Callers):
    """Callers that ask for the usual, and for what is wanted besides."""

    patience_s = 900.0
    """Chance decides who of those at the door is accepted in the ingress' short lives."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wanted: Counter[Sort] = Counter()
        self.too_late: set[str] = set()
        """Keys whose callers were told that their time had passed."""
        self._at_the_door = asyncio.Semaphore(MOST_AT_THE_DOOR)
        self._knocking: asyncio.Task[None] | None = None

    def body(self, number: int) -> tuple[str, dict[str, Any]]:
        """The request of a caller."""
        wanted = sorted(self.wanted.keys())
        sorts = (*USUAL, *wanted)
        match sorts[number % len(sorts)]:
            case Sort.RETRIED:
                return "search", {"query": f"river {number} [simulate status=500 times=1]"}
            case Sort.LONG:
                return "search", {"query": f"canal {number} [simulate latency=1.4]"}
            case Sort.SLOW:
                url = f"{self._site}/pages/{number % 200 + 1}?simulate=latency=0.8"
                return "crawl", {"url": url}
            case Sort.DOOMED:
                said = prompt(f"Explain weir {number}. [simulate status=500]")
                return "jobs", {"kind": "llm", "input": said, "retry": {"max_attempts": 2}}
            case Sort.LARGE:
                return "llm", prompt(f"{number}{LARGE}")
            case Sort.OVERDUE:
                said = {"query": f"gauge {number} [simulate retry_after=90]"}
                by = datetime.now(UTC) + timedelta(seconds=OVERDUE_AFTER_S)
                return "jobs", {"kind": "search", "input": said, "deadline": by.isoformat()}
            case usual:
                return super().body(number - number % 3 + USUAL.index(usual))

    async def submit(self, number: int) -> str:
        """Submit until it is accepted, or its deadline is over; the job's id."""
        if self._at_the_door.locked():
            return ""
        async with self._at_the_door:
            try:
                return await super().submit(number)
            except TooLate:
                return ""

    async def _post(
        self, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """One try. Who was not answered repeats it when the ingress is there again.

        Hundreds that try all the time would take the machine from the process that starts.
        """
        status, said = await super()._post(path, body, headers)
        if status == NO_ANSWER:
            if self._knocking is None or self._knocking.done():
                knocking = until(self._answers, self.patience_s)
                self._knocking = asyncio.create_task(knocking, name="knocking")
            await asyncio.shield(self._knocking)
        elif said.get("code") == ProblemCode.DEADLINE_IN_PAST:
            key = headers["Idempotency-Key"]
            self.ledger.note("POST", path, status, said, key=key)
            self.too_late.add(key)
            raise TooLate
        return status, said

    async def _answers(self) -> bool:
        try:
            async with self._session.get(f"{self._url}/livez") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


def prompt(text: str) -> dict[str, Any]:
    """The input of an llm job."""
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


@dataclass(frozen=True)
class Place:
    """A crash point, and what makes processes pass it."""

    point: CrashPoint
    hits: tuple[int, int] = (2, 6)
    """At which hit the process dies: drawn between these, anew for each life."""
    needs: Sort | None = None
    stir: Callable[[Scene], Awaitable[None]] | None = None
    """Done over and over again meanwhile."""


@dataclass(frozen=True)
class Column:
    """Processes that die together at one place after the other."""

    fault: str
    processes: tuple[str, ...]
    places: tuple[Place, ...]


async def kill_a_worker(here: Scene) -> None:
    """In the middle of a call: its lease runs out, and nobody else is the cause."""

    async def calls() -> bool:
        return await in_flight(here, "crawl") > 0

    await until(calls, HIT_WITHIN_S)
    here.stack.kill("crawler_worker")


async def lose_messages(here: Scene) -> None:
    """Messages that the broker had confirmed are gone, while nobody takes them."""
    here.stack.kill("crawler_worker")
    queue = "/api/queues/forebay/forebay.crawl.default"

    async def some_wait() -> bool:
        return (await here.management(queue)).get("messages_ready", 0) > 0

    try:
        await until(some_wait, 3)
    except TimeoutError:
        return
    url = f"{here.stack.servers.management_url}{queue}/contents"
    async with aiohttp.ClientSession() as session, session.delete(url) as answer:
        assert answer.status == 204


INGRESS = Column(
    "F1",
    ("ingress",),
    (
        Place(CrashPoint.INGRESS_BEFORE_INSERT),
        Place(CrashPoint.INGRESS_AFTER_INSERT),
        Place(CrashPoint.INGRESS_AFTER_ANSWER),
        Place(CrashPoint.INGRESS_BEFORE_PUBLISH),
        Place(CrashPoint.INGRESS_AFTER_PUBLISH),
        Place(CrashPoint.INGRESS_BEFORE_MARK),
    ),
)
RECONCILERS = Column(
    "F2",
    ("reconciler", "reconciler-2"),
    (
        # First, and at the first hit: what was written just before a worker's death is still there.
        Place(CrashPoint.PRUNER_AFTER_LOOK, hits=(1, 1)),
        Place(CrashPoint.RESCUER_BEFORE, hits=(2, 8)),
        Place(CrashPoint.RESCUER_AFTER_RESCUE, hits=(1, 2), needs=Sort.SLOW, stir=kill_a_worker),
        Place(CrashPoint.RELAY_AFTER_DUE, hits=(1, 3)),
        Place(CrashPoint.OUTBOX_BEFORE_PUBLISH, hits=(2, 4)),
        Place(CrashPoint.OUTBOX_AFTER_PUBLISH, hits=(1, 3)),
        Place(CrashPoint.REFILLER_AFTER_LOOK, hits=(1, 2), stir=lose_messages),
        Place(CrashPoint.RESCUER_AFTER_EXPIRE, hits=(1, 2), needs=Sort.OVERDUE),
    ),
)
SEARCHERS = Column(
    "F3",
    ("search_worker",),
    (
        Place(CrashPoint.WORKER_AFTER_RECEIVE),
        Place(CrashPoint.WORKER_AFTER_CLAIM),
        Place(CrashPoint.WORKER_BEFORE_WRITE),
        Place(CrashPoint.WORKER_BEFORE_ACK),
        Place(CrashPoint.WORKER_DURING_CALL, hits=(1, 4), needs=Sort.LONG),
    ),
)
WRITERS = Column(
    "F3",
    ("llm_worker",),
    (
        Place(CrashPoint.WORKER_AFTER_CHUNKS, hits=(1, 3), needs=Sort.LARGE),
        Place(CrashPoint.WORKER_BEFORE_DEAD_LETTER, hits=(1, 3), needs=Sort.DOOMED),
        Place(CrashPoint.WORKER_AFTER_DEAD_LETTER, hits=(1, 3), needs=Sort.DOOMED),
    ),
)
TELLERS = Column(
    "F4",
    ("search_worker",),
    (
        Place(CrashPoint.NOTIFIER_BEFORE_DELIVERIES),
        Place(CrashPoint.NOTIFIER_BEFORE_MARK),
    ),
)
POSTERS = Column("F4", ("webhook_worker",), (Place(CrashPoint.WEBHOOK_AFTER_POST),))
TOLD = (TELLERS, POSTERS)
"""Passed only where somebody is told by webhook: tests/chaos/test_webhooks.py."""
COLUMNS = (INGRESS, RECONCILERS, SEARCHERS, WRITERS)


async def jobs_by_key(here: Scene) -> Counter[str]:
    """In the store itself: a job of which no caller ever heard is in no ledger."""
    database = StoreSettings.model_fields["mongodb_database"].default
    pipeline = [{"$group": {"_id": "$idempotency.key", "jobs": {"$sum": 1}}}]
    async with AsyncMongoClient[dict[str, Any]](here.stack.servers.mongodb_url) as client:
        found = await client[database]["jobs"].aggregate(pipeline)
        return Counter({one["_id"]: one["jobs"] async for one in found})


class Hits:
    """The file in which a process writes where it is about to die."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int]]:
        """Place and process id, in order."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [(point, int(pid)) for point, pid in (line.split() for line in lines)]

    def of(self, point: CrashPoint) -> int:
        """How often this place was hit."""
        return Counter(hit for hit, _ in self.lines())[point]


@dataclass
class Crasher:
    """Lets the columns of a scene die."""

    here: Scene
    hits: Hits
    chance: random.Random
    rows: dict[CrashPoint, Row]
    action: Action = Action.KILL
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)

    async def run(self, columns: tuple[Column, ...], count: int) -> None:
        """Each place of each column `count` times; then everybody is well again."""
        async with asyncio.TaskGroup() as group:
            for column in columns:
                group.create_task(self._run_column(column, count), name=column.processes[0])

    async def _run_column(self, column: Column, count: int) -> None:
        for place in column.places:
            began, accepted = self.clock(), self._accepted()
            wanted = self._wanted()
            if place.needs is not None:
                wanted[place.needs] += 1
            stirring = asyncio.create_task(self._stir(place), name=f"stir for {place.point}")
            try:
                await self._die_at(place, column.processes, count)
            finally:
                await end(stirring)
            if place.needs is not None:
                wanted.subtract([place.needs])
                wanted += Counter()
            row = self.rows[place.point]
            row.injected = self.hits.of(place.point)
            row.jobs += self._accepted() - accepted
            row.seconds = round(self.clock() - began, 1)
        for name in column.processes:
            self.here.stack.tell(name)
            await self._end(name)

    def _accepted(self) -> int:
        return len(self.here.callers.ledger.accepted)

    def _wanted(self) -> Counter[Sort]:
        assert isinstance(self.here.callers, CrashCallers)
        return self.here.callers.wanted

    async def _stir(self, place: Place) -> None:
        if place.stir is None:
            return
        async for _ in pace(0.5, 1_000_000):
            await place.stir(self.here)

    async def _die_at(self, place: Place, processes: tuple[str, ...], count: int) -> None:
        before = self.hits.of(place.point)
        for name in processes:
            self._arm(name, place)
            await self._end(name)

        async def died_again() -> bool:
            return self.hits.of(place.point) >= before + n

        for n in range(1, count + 1):
            try:
                await until(died_again, HIT_WITHIN_S)
            except TimeoutError:
                raise AssertionError(f"{place.point} was hit {n - 1} times of {count}") from None
            for name in processes:
                self._arm(name, place)

        async def all_gone() -> bool:
            running = {pid for name in processes for pid in self.here.stack.pids(name)}
            return not running & {pid for _, pid in self.hits.lines()}

        # A second SIGTERM to one that drains would cut its drain short.
        await until(all_gone, HIT_WITHIN_S)

    async def _end(self, name: str) -> None:
        """Now, wherever it is, so that it starts as it was told."""
        stack = self.here.stack

        async def listens_to_signals() -> bool:
            started = len([*log_lines(stack.log(name), "process.started")])
            return started == len(stack.endings(name)) + 1

        if self.action is Action.KILL:
            stack.kill(name)
        else:
            await until(listens_to_signals, HIT_WITHIN_S)
            stack.send(name, signal.SIGTERM)

    def _arm(self, name: str, place: Place) -> None:
        """From its next start on."""
        n = self.chance.randint(*place.hits)
        self.here.stack.tell(
            name,
            FOREBAY_CRASHPOINT=f"{place.point}:{n}:{self.action}",
            FOREBAY_CRASHPOINT_LOG=str(self.hits.path),
        )
