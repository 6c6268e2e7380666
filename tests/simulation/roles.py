"""The processes, each put together from the product's own parts as its composition root does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from forebay.addresses import AddressGuard
from forebay.broker import Consumer
from forebay.jobs import Job, JobKind
from forebay.process import Process
from forebay.requests import INPUT_MODELS
from forebay.retry import RetryPolicy
from forebay.settings import AttemptSettings
from forebay.store import JobRef, JobStore
from forebay.store.group_commit import GroupCommit, PendingLimits
from forebay.store.paces import MemoryPaceStore
from forebay.store.patience import Preparation
from forebay.store.watch import Watch
from forebay.telemetry.metrics import Metrics
from forebay.testing.broker import FakeConsumer
from forebay.testing.live import FakeLive
from forebay.webhooks.delivery import DeliveryRequest
from forebay.webhooks.notifier import Notifier
from forebay.worker.call import CallLimits, LeasedCall
from forebay.worker.execution import Execution, ExecutionPolicy
from forebay.worker.pool import Pool
from forebay.worker.runtime import serve
from forebay.worker.telling import Telling
from ingress.open_jobs import OpenJobs
from ingress.publishing import PublishPump
from ingress.room import Room
from ingress.schemas import JobSubmission
from ingress.settings import IngressSettings
from ingress.submission import Accepted, Bounds, Desk, JobBuilder, Origin, Rules
from reconciler.app import endless_loops, turn_until_stopped
from reconciler.settings import ReconcilerSettings

from .provider import LEASE_S, TIME_LIMIT_S, SimHandler
from .virtual_loop import SimProcess
from .wire import ConsumerWire, PublisherWire, StoreWire

if TYPE_CHECKING:
    from .world import World

METRICS = Metrics()
"""Nobody reads them; made once, because making them takes longer than a history."""
SETTINGS = IngressSettings()
ROOM = Room(MemoryPaceStore(), max_age_s=0, logger=structlog.get_logger())
"""What the census says is another test's: here everything is accepted."""
RULES = Rules(AttemptSettings(), AddressGuard(frozenset()))
MODELS = {**INPUT_MODELS, JobKind.WEBHOOK: DeliveryRequest}
RETRY = RetryPolicy(base_s=0.5, cap_s=4.0)
PACE = ReconcilerSettings(
    relay_every_s=1,
    rescuer_every_s=1,
    refiller_every_s=4,
    pruner_every_s=5,
    notifier_every_s=1,
    notify_after_s=2,
    census_every_s=60,
    publish_after_s=2,
    lost_after_s=8,
    batch=5,
)
"""Quicker than in production, so that a history needs fewer steps; small batches, to fill them."""
GRACE_S = 2.0


class Role(ABC):
    """What all have: a store over the wire, a logger, and an end that is asked for."""

    def __init__(self, world: World, process: SimProcess) -> None:
        self.world = world
        self.process = process
        self.wire = StoreWire(world, process)
        self.store: JobStore = self.wire  # type: ignore[assignment]  # by its __getattr__
        self.publisher = PublisherWire(world, process)
        self.logger: Any = world.logger
        self.consumer: FakeConsumer | None = None
        self.stopping = asyncio.Event()

    def ask_to_stop(self) -> None:
        """What SIGTERM does."""
        self.stopping.set()

    @abstractmethod
    async def main(self) -> None:
        """Work until asked to stop."""


class Ingress(Role):
    """Group commit, desk and pump."""

    def __init__(self, world: World, process: SimProcess) -> None:
        super().__init__(world, process)
        self._desk: Desk | None = None
        self._pump: PublishPump | None = None
        self._skew = timedelta(seconds=world.skew_s())
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def serving(self) -> bool:
        """Whether it takes requests."""
        return self._desk is not None and not self.process.dead and not self.stopping.is_set()

    async def main(self) -> None:
        """See `ingress.app.open_services`."""
        limits = PendingLimits(answer_within_s=SETTINGS.accept_timeout_s)
        async with (
            PublishPump(
                self.publisher, self.store, self.logger, max_pending=3, grace_s=GRACE_S
            ) as self._pump,
            GroupCommit(self.store, limits=limits) as commit,
        ):
            builder = JobBuilder(RULES, self._clock)
            bounds = Bounds(SETTINGS, ROOM, OpenJobs(self.store))
            self._desk = Desk(builder, commit, self.store, self._pump, METRICS, bounds)
            await self.stopping.wait()
            if self._open:
                await asyncio.wait([*self._open])

    def accept(
        self, submission: JobSubmission, origin: Origin, answer: Callable[[Any], None]
    ) -> asyncio.Task[Any]:
        """Serve one request in this process; `answer` hears of an `Accepted` or of a refusal."""
        request = self.process.spawn(self._serve(submission, origin, answer), "request")
        self._open.add(request)
        request.add_done_callback(self._open.discard)
        return request

    async def _serve(
        self, submission: JobSubmission, origin: Origin, answer: Callable[[Any], None]
    ) -> None:
        assert self._desk is not None
        try:
            said: Accepted | Exception = await self._desk.accept(submission, origin)
        except Exception as refused:  # noqa: BLE001  the route makes a problem document of it
            said = refused
        answer(said)

    def replay(self, job: Job) -> None:
        """What the route of a retry does with the job that the store queued again."""
        if self._pump is not None:
            self._pump.offer(JobRef.of(job))

    def _clock(self) -> datetime:
        return self.world.clock() + self._skew


class Reconciler(Role):
    """The endless loops, as the process itself puts them together."""

    def __init__(self, world: World, process: SimProcess) -> None:
        super().__init__(world, process)
        self._process = Process(process.name, self.logger, METRICS)

    def ask_to_stop(self) -> None:
        """What SIGTERM does."""
        self._process.signals.ask()

    async def main(self) -> None:
        """See `reconciler.app.main`."""
        publisher: Any = self.publisher
        loops = endless_loops(
            self._process, PACE, self.store, MemoryPaceStore(), self.world.endpoints, publisher
        )
        await turn_until_stopped(self._process, loops)


class Worker(Role):
    """Pool, execution and leased call, by the runtime that all workers share."""

    def __init__(self, world: World, process: SimProcess, kind: JobKind) -> None:
        super().__init__(world, process)
        self._kind = kind
        self.consumer = world.broker.consumer(kind, world.concurrency + 1)
        self._process = Process(process.name, self.logger, METRICS)

    def ask_to_stop(self) -> None:
        """What SIGTERM does."""
        self._process.signals.ask()

    async def main(self) -> None:
        """See `forebay.worker.runtime.run_worker`."""
        assert self.consumer is not None
        async with Watch(self.store.asked_to_stop, self.logger, name="stop", tick_s=1.0) as stops:
            call = LeasedCall(
                self.store,
                SimHandler(self.world.provider, self.process),
                stops,
                Telling(FakeLive().worker(), Notifier(self.store, self.world.endpoints)),
                self.logger,
                CallLimits(TIME_LIMIT_S, LEASE_S),
            )
            execution = Execution(
                self.store,
                call,
                MODELS[self._kind],
                ExecutionPolicy(self.process.name, LEASE_S, RETRY),
                METRICS,
                self.logger,
            )
            pool = Pool(execution.execute, self.world.concurrency, self.logger)
            consumer: Consumer = ConsumerWire(self.world, self.process, self.consumer)
            await serve(self._process, Preparation(self.store), consumer, pool, GRACE_S)
