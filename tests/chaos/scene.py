"""The whole system under load, and its judge: what every chaos test stands on.

async with scene(tmp_path) as here:
    async with here.load(per_second=100):
        ...                      # inject
    audit = await here.settled() # everything terminal, queues empty, ledger against store

Callers keep a ledger outside the system; an observer follows every step of every job; the simulated
providers keep their own log of calls. `settled` compares them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from forebay.audit.calls import ProviderCall, calls_of, read_calls
from forebay.audit.ledger import read_ledger
from forebay.audit.reading import look
from forebay.audit.verdict import Audit, Broken, accepted_jobs, judge
from forebay.errors import StoreUnavailable
from forebay.local.environment import Crew, World
from forebay.local.mongodb import mongodb_version
from forebay.local.stack import Stack
from forebay.settings import StoreSettings
from forebay.store.mongo import MongoJobStore, open_store
from forebay.testing.polling import pace, until
from tests.broker_world import of_jobs
from tests.e2e.callers import Callers
from tests.e2e.worker_settings import of_workers

from .observer import Observer
from .report import Row

SHORT_LEASES = of_workers(LEASE_S=3)
QUICK_RETRIES = of_workers(RETRY_BASE_S=0.2)
QUICK_CALLS = of_workers(CONCURRENCY=100)


@dataclass
class Scene:
    """The running system, its callers and its judges."""

    stack: Stack
    callers: Callers
    store: MongoJobStore
    observer: Observer
    versions: Mapping[str, str]
    submitted: int = 0
    quiet_after_s: float = 0.0
    """How long the latest `settled` waited."""
    messages_left: int = 0
    """In the queues, when it gave up or was content."""

    @asynccontextmanager
    async def load(self, per_second: float) -> AsyncIterator[None]:
        """Submit at a steady rate meanwhile (an open loop); at the end every caller has a 202."""
        enough = asyncio.Event()
        submitting = asyncio.create_task(self._submit_until(enough, per_second), name="load")
        try:
            yield
        finally:
            enough.set()
            await submitting

    async def _submit_until(self, enough: asyncio.Event, per_second: float) -> None:
        async with asyncio.TaskGroup() as submits:
            async for _ in pace(per_second, 10_000_000):
                if enough.is_set():
                    return
                submits.create_task(self.callers.submit(self.submitted))
                self.submitted += 1

    async def open_jobs(self) -> int:
        """Jobs without an end; raises `StoreUnavailable` while the store is away."""
        return sum(part.count for part in await self.store.backlog())

    async def settled(self, within_s: float = 120.0) -> Audit:
        """Wait until there is nothing to do any more (I10), then judge ledger, store and calls.

        When there is still something to do after that time, the audit and `check` say what.
        """
        began = time.monotonic()

        async def nothing_open() -> bool:
            try:
                if await self.open_jobs() or await self.store.untold(0, 1):
                    return False
                # What was untold at the first look may be a delivery since.
                return await self.open_jobs() == 0
            except StoreUnavailable:
                return False

        async def queues_empty() -> bool:
            self.messages_left = sum((await self.messages()).values())
            return self.messages_left == 0

        with contextlib.suppress(TimeoutError):
            await until(nothing_open, within_s)
            await until(queues_empty, 30)
        self.quiet_after_s = time.monotonic() - began
        return await self.audit()

    async def audit(self) -> Audit:
        """Ledger, store and the providers' log against each other, now."""
        await self.observer.caught_up()
        ledger = read_ledger(self.callers.ledger_path)
        seen = await look(self.store, accepted_jobs(ledger))
        return judge(ledger, seen.values(), await self.calls(), datetime.now(UTC))

    async def calls(self) -> list[ProviderCall]:
        """Every call that reached a provider: the log has those that ended, memory the others."""
        kept = (await self.callers.get(f"{self.stack.providers_url}/_calls"))["calls"]
        going = (call for call in kept if call["ended_ms"] is None)
        return [*read_calls(self.stack.directory / "provider-calls.jsonl"), *calls_of(going)]

    async def messages(self) -> Mapping[str, int]:
        """Messages in each queue of jobs, ready or in the hands of a worker."""
        # Without statistics, which are 5 s old and older.
        plain = "disable_stats=true&enable_queue_totals=true"
        queues = await self.management(f"/api/queues/forebay?{plain}")
        return {queue["name"]: queue.get("messages", 0) for queue in of_jobs(queues)}

    async def management(self, path: str) -> Any:
        """One answer of RabbitMQ's management API."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.stack.servers.management_url}{path}") as answer,
        ):
            return await answer.json()


@asynccontextmanager
async def scene(
    directory: Path,
    *,
    profile: str = "quiet",
    seed: int = 1,
    crew: Crew = Crew(),
    callers: type[Callers] = Callers,
    **env: str,
) -> AsyncIterator[Scene]:
    """Start everything; private servers, so that they can be killed."""
    told = {**SHORT_LEASES, **QUICK_RETRIES, **QUICK_CALLS, **env}
    async with (
        Stack(directory, env=told, world=World(profile, seed), crew=crew) as stack,
        callers(stack.ingress_url, stack.site_url, directory / "ledger.jsonl") as calling,
        open_store(_patient_settings(stack.servers.mongodb_url)) as store,
        Observer(stack.servers.mongodb_url) as observer,
    ):
        here = Scene(stack, calling, store, observer, {})
        overview = await here.management("/api/overview")
        here.versions = {
            "python": platform.python_version(),
            "rabbitmq": overview["rabbitmq_version"],
            "mongodb": await mongodb_version(stack.servers.mongodb_url),
        }
        yield here


def _patient_settings(url: str) -> StoreSettings:
    """For the judges, who may wait for the store on a busy machine."""
    return StoreSettings(mongodb_url=SecretStr(url), mongodb_timeout_s=15.0)


def record(row: Row, here: Scene, audit: Audit) -> None:
    """Note in the row what the judges found."""
    row.versions = dict(here.versions)
    row.jobs += audit.accepted
    broken = {what: len(offenders) for what, offenders in audit.broken.items()}
    lost = broken.pop(Broken.LOST, 0) + broken.pop(Broken.NOT_FOUND, 0)
    row.lost += lost + len(audit.open)
    row.duplicates += sum(broken.values()) + len(here.observer.breaches())
    row.top("quiet_after_s", here.quiet_after_s)


def check(here: Scene, audit: Audit) -> None:
    """Nothing accepted is lost, nothing happened twice, no job took a way it may not take."""
    assert {what: [*said] for what, said in audit.broken.items() if said} == {}
    assert audit.open == ()
    assert here.messages_left == 0
    assert here.observer.breaches() == []
