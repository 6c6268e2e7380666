"""The real application in this process, over the shipped fakes, and a client for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from forebay.addresses import AddressGuard
from forebay.broker import Publisher
from forebay.errors import JobError, StoreUnavailable
from forebay.jobs import Attempt, Event, Job
from forebay.settings import AttemptSettings
from forebay.store import Claimed, Ending, InsertResult, JobRef
from forebay.store.batches import MemoryBatchStore
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.keys import MemoryKeyStore
from forebay.store.memory import MemoryJobStore
from forebay.store.paces import MemoryPaceStore
from forebay.telemetry.metrics import Metrics
from forebay.testing.broker import FakeBroker
from forebay.testing.live import FakeLive
from ingress.app import Choices, Outside, Stores, create_app, open_services
from ingress.dependencies import Services
from ingress.settings import AccessSettings, Authentication, IngressSettings, PressureSettings
from ingress.submission import Rules

JSON = {"Content-Type": "application/json"}
SEARCH = {"query": "hydro power forebay"}


async def until(condition: Callable[[], bool]) -> None:
    """Let everybody else go on until it holds."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


class MovableClock:
    """Stands still until it is moved; begins now, because some limits are judged by it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class FaultyStore(MemoryJobStore):
    """The fake store with two knobs: away (nothing answers) and held (inserts wait)."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__(clock)
        self.away = False
        self.free = asyncio.Event()
        self.free.set()
        self.inserting = asyncio.Event()
        self.forgets_results = False
        """Whether those of its own place are kept no longer."""
        self.lost_retries = 0
        """How many of the next calls of `retry_many` do nothing."""
        self.finished_queries: list[int] = []
        self.asked_finished = asyncio.Event()

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable

    async def find_by_key(self, tenant: str, key: str) -> Job | None:
        self._check()
        return await super().find_by_key(tenant, key)

    async def ping(self) -> None:
        self._check()

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        self._check()
        self.inserting.set()
        await self.free.wait()
        return await super().insert(jobs)

    async def get(self, tenant: str, job_id: str) -> Job | None:
        self._check()
        return await super().get(tenant, job_id)

    async def result(self, job: Job) -> str | None:
        self._check()
        return None if self.forgets_results else await super().result(job)

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        self._check()
        return await super().retry(tenant, job_id, generation)

    async def retry_many(self, tenant: str, job_ids: Collection[str]) -> Sequence[JobRef]:
        self._check()
        if self.lost_retries:
            self.lost_retries -= 1
            raise StoreUnavailable
        return await super().retry_many(tenant, job_ids)

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        self._check()
        return await super().cancel(tenant, job_id)

    async def finished(self, job_ids: Any) -> frozenset[str]:
        self._check()
        self.finished_queries.append(len(job_ids))
        self.asked_finished.set()
        return await super().finished(job_ids)

    async def mark_published(self, refs: Sequence[JobRef]) -> None:
        self._check()
        await super().mark_published(refs)


@dataclass
class World:
    """Everything a test of the ingress wants to look at."""

    client: httpx.AsyncClient
    app: ASGIApp
    services: Services
    store: FaultyStore
    broker: FakeBroker
    live: FakeLive
    paces: MemoryPaceStore
    clock: MovableClock
    logs: list[Mapping[str, Any]] = field(default_factory=list)

    async def submit(self, kind: str = "search", body: Any = None, **headers: str) -> Any:
        response = await self.client.post(f"/v1/{kind}", json=body or SEARCH, headers=headers)
        assert response.status_code == 202, response.text
        return response.json()

    async def stored(self, job_id: str) -> Job:
        job = await self.store.get("default", job_id)
        assert job is not None
        return job

    async def claim(self, job_id: str) -> Job:
        claimed = await self.store.claim(JobRef.of(await self.stored(job_id)), "worker", 30)
        assert isinstance(claimed, Claimed)
        return claimed.job

    async def finish(
        self, job_id: str, event: Event, *, error: JobError | None = None, **more: Any
    ) -> Job:
        """What a worker does: claim, call, store the outcome."""
        return await self.end(await self.claim(job_id), event, error=error, **more)

    async def end(
        self, job: Job, event: Event, *, error: JobError | None = None, **more: Any
    ) -> Job:
        """Store the outcome of a call."""
        assert job.lease is not None
        attempt = Attempt(
            n=job.attempts,
            generation=job.generation,
            outcome=str(event),
            worker="worker",
            started_at=self.clock.now,
            finished_at=self.clock.now,
            provider="searxng",
            http_status=200,
            error=error,
        )
        ended = await self.store.finish(
            job.id,
            job.lease.token,
            Ending(event=event, attempt=attempt, error=error, **more),
        )
        assert ended is not None
        return ended


@asynccontextmanager
async def ingress(
    publisher: Publisher | None = None,
    authentication: Authentication = Authentication.OPEN,
    **settings: Any,
) -> AsyncIterator[World]:
    """The application, entered; settings as in `IngressSettings` and `PressureSettings`."""
    clock, broker, live = MovableClock(), FakeBroker(), FakeLive()
    paces = MemoryPaceStore()
    store = FaultyStore(clock)
    keys = MemoryKeyStore(clock)
    logs: list[Mapping[str, Any]] = []

    def keep(_: Any, __: str, event: Any) -> Any:
        logs.append(event)
        raise structlog.DropEvent

    outside = Outside(
        Stores(store, MemoryBatchStore(), keys, paces, MemoryEndpointStore()),
        publisher or broker.publisher(),
        live.ingress(),
        Metrics(),
        structlog.wrap_logger(None, processors=[structlog.processors.format_exc_info, keep]),
        clock,
    )
    rules = Rules(AttemptSettings(), AddressGuard(frozenset({("localhost", 9000)})))
    # Generous: what is tested here does not depend on how busy the machine is.
    options: dict[str, Any] = {"grace_s": 30.0, "accept_timeout_s": 30.0} | settings
    named = {name: options.pop(name) for name in PressureSettings.model_fields if name in options}
    access = AccessSettings(authentication=authentication)
    choices = Choices(IngressSettings(**options), access, PressureSettings(**named), rules)
    async with open_services(outside, choices) as services:
        app = create_app(lambda: nullcontext(services))
        async with app.router.lifespan_context(app) as state:

            async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, "state": dict(state or {})}, receive, send)

            transport = httpx.ASGITransport(with_state)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client:
                yield World(client, with_state, services, store, broker, live, paces, clock, logs)
        # Else the pump would try for its whole grace period to tell it what was published.
        store.away = False
