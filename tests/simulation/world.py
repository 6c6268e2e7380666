"""One history's world: a store, a broker, a provider, the processes and what is noted of them."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any, TypeVar

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import Job, JobKind, JobState
from forebay.store.endpoints import MemoryEndpointStore
from forebay.testing.broker import FakeBroker

from .fates import Fates
from .letters import Letters
from .provider import PlannedDefect, Provider
from .roles import Ingress, Reconciler, Role, Worker
from .virtual_loop import SimProcess, VirtualLoop
from .watched_store import WatchedStore

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KINDS = (JobKind.SEARCH, JobKind.LLM)
AnyRole = TypeVar("AnyRole", bound=Role)


class Slot:
    """A place where a process runs, again and again: what a supervisor keeps up."""

    def __init__(self, name: str, make: Callable[[SimProcess], Role]) -> None:
        self.name = name
        self.make = make
        self.incarnations = 0
        self.role: Role | None = None
        self.gone = asyncio.Event()


class World:
    """Everything there is. Only the histories know what happens in it."""

    def __init__(self, seed: int, loop: VirtualLoop, *, faults: bool = True) -> None:
        self.faults = faults
        """Whether anything but the provider may do other than it should."""
        self.loop = loop
        self.context = copy_context()
        self.chance = Random(f"{seed}/world")
        self.fates = Fates(Random(f"{seed}/fates"), faults=faults)
        self.trace: list[str] = []
        self.violations: list[str] = []
        self.injected: Counter[str] = self.fates.injected
        self.published: list[JobMessage] = []
        """Every message that ever came to the broker."""
        self.concurrency = self.chance.randint(1, 3)
        """Of each worker."""
        self.store_away = False
        self.clock_jump_s = 0.0
        self.closed = False
        self.logger = _Listener(self)
        self.store = WatchedStore(self.clock, self._changed)
        self.endpoints = MemoryEndpointStore()
        self.broker = FakeBroker()
        self.letters = Letters()
        self.provider = Provider(self, Random(f"{seed}/provider"))
        self.tasks: list[asyncio.Task[Any]] = []
        self.processes: list[SimProcess] = []
        """All that ever were."""
        self._names: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._queued_at: dict[str, float] = {}
        """When each job came into the queue, by the loop's time."""
        self._accepted_at: dict[str, float] = {}
        """When the broker took the latest message of each job."""
        self.slots = [
            *(Slot(f"ingress {n}", partial(Ingress, self)) for n in (1, 2)),
            *(Slot(f"reconciler {n}", partial(Reconciler, self)) for n in (1, 2)),
            *(Slot(f"search {n}", partial(Worker, self, kind=JobKind.SEARCH)) for n in (1, 2)),
            Slot("llm 1", partial(Worker, self, kind=JobKind.LLM)),
            Slot("webhook 1", partial(Worker, self, kind=JobKind.WEBHOOK)),
        ]

    def clock(self) -> datetime:
        """The store's clock."""
        return START + timedelta(seconds=self.loop.time() + self.clock_jump_s)

    def skew_s(self) -> float:
        """How far a new process's clock is from the store's, in seconds."""
        return self.chance.choice([0.0, 0.0, 0.3, -0.3, 15.0, -15.0]) if self.faults else 0.0

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of nobody's: the servers', the callers', the supervisors'."""
        task = self.loop.create_task(coroutine, name=name, context=self.context.copy())
        self.tasks.append(task)
        return task

    def begin(self) -> None:
        """Start every process."""
        for slot in self.slots:
            self.spawn(self._supervise(slot), f"supervisor of {slot.name}")

    async def _supervise(self, slot: Slot) -> None:
        while not self.closed:
            slot.gone.clear()
            slot.incarnations += 1
            process = SimProcess(f"{slot.name}.{slot.incarnations}", self.loop)
            self.processes.append(process)
            slot.role = slot.make(process)
            process.spawn(self._live(slot, slot.role), process.name)
            await slot.gone.wait()
            await asyncio.sleep(0.2 if self.fates.calm else self.chance.uniform(0.05, 4.0))

    async def _live(self, slot: Slot, role: Role) -> None:
        """In the process itself."""
        try:
            await role.main()
        except Exception as error:  # noqa: BLE001  a process that ends so is a finding
            if not self.closed:
                self.violate(f"{role.process.name} ended by itself: {error!r}")
        role.process.ended = True
        slot.gone.set()

    def running(self, of: type[AnyRole]) -> list[AnyRole]:
        """The processes of a role that work now."""
        roles = (slot.role for slot in self.slots)
        return [role for role in roles if isinstance(role, of) and role.process.up]

    def kill(self, process: SimProcess) -> None:
        """SIGKILL: no further step of it runs."""
        if process.dead or self.closed:
            return
        process.dead = True
        self.note(f"{process.name} is killed")
        for slot in self.slots:
            if slot.role is not None and slot.role.process is process:
                if slot.role.consumer is not None:
                    slot.role.consumer.vanish()
                slot.gone.set()

    def cut_off(self, process: SimProcess) -> None:
        """Cut the connection over which a worker consumes."""
        for slot in self.slots:
            role = slot.role
            if role is not None and role.process is process and role.consumer is not None:
                role.consumer.lose_connection()
                self.broker.pump()

    def accept(self, message: JobMessage) -> NotPublished | None:
        """Take a message into the broker."""
        why_not = self.broker.accept(message)
        if why_not in {None, NotPublished.TIMEOUT}:
            self.published.append(message)
            self._accepted_at[message.job_id] = self.loop.time()
        return why_not

    def note(self, what: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def violate(self, what: str) -> None:
        """A promise is broken."""
        self.note(f"VIOLATION {what}")
        self.violations.append(what)

    def name_of(self, job_id: str) -> str:
        """A job's name in the trace: ids are not the same in two runs of one history."""
        return self._names.setdefault(job_id, f"job{len(self._names) + 1}")

    def _token(self, token: str) -> str:
        return self._tokens.setdefault(token, f"lease{len(self._tokens) + 1}")

    def _changed(self, before: Job | None, job: Job, breaches: list[str]) -> None:
        if self.closed:
            return
        if job.state is JobState.QUEUED and (before is None or before.queued_at != job.queued_at):
            self._queued_at[job.id] = self.loop.time()
        if job.dead_lettered:
            self.letters.due[job.id, job.generation] = None
        marked = before is not None and before.published_at is None and job.published_at is not None
        if marked and self._accepted_at.get(job.id, -1.0) < self._queued_at.get(job.id, 0.0):
            breaches.append("marked as published, and nothing was since it is queued")
        name = self.name_of(job.id)
        held = f" {self._token(job.lease.token)}" if job.lease else ""
        sent = " published" if job.published_at else ""
        self.note(f"  {name} {job.state} {job.generation}/{job.attempts}{held}{sent}")
        for breach in breaches:
            self.violate(f"{name}: {breach}")

    @property
    def fingerprint(self) -> str:
        """Of the whole trace."""
        return sha256("\n".join(self.trace).encode()).hexdigest()


class _Listener:
    """A logger that keeps silent, and hears of defects."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to say."""

    debug = warning = error = info

    def exception(self, event: str, **kwargs: Any) -> None:
        """An exception that the code did not expect."""
        del kwargs
        error = sys.exception()
        if not isinstance(error, PlannedDefect) and not self._world.closed:
            self._world.note("".join(traceback.format_exception(error)))
            self._world.violate(f"{event}: {error!r}")
