"""The ingress as a process over the shipped fakes, with somebody who works on its jobs.

What is told to it is gone when it ends, so anything may be sent to it, very often. Of the jobs some
succeed, some fail, and those of the bulk lane run for a moment: whoever walks from link to link
meets every state.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime

import structlog
from pydantic import BaseModel

from forebay.addresses import AddressGuard
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Job, JobKind, Lane, Usage
from forebay.keys import ApiKey, Quota, Role, Token, digest_of
from forebay.outcomes import Call, Failed, Outcome, Succeeded
from forebay.process import StopSignals
from forebay.progress import Write
from forebay.requests import INPUT_MODELS
from forebay.retry import RetryPolicy
from forebay.settings import AttemptSettings
from forebay.store.batches import MemoryBatchStore
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.keys import MemoryKeyStore
from forebay.store.memory import MemoryJobStore
from forebay.store.paces import MemoryPaceStore
from forebay.store.watch import Watch
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from forebay.testing.broker import FakeBroker
from forebay.testing.live import FakeLive
from forebay.webhooks.delivery import DeliveryRequest
from forebay.webhooks.notifier import Notifier
from forebay.worker.call import CallLimits, LeasedCall
from forebay.worker.execution import Execution, ExecutionPolicy
from forebay.worker.pool import Pool
from forebay.worker.telling import Telling
from ingress.app import Choices, Outside, Stores, create_app, open_services
from ingress.connections import Connections
from ingress.server import Stop, build_server, listen
from ingress.settings import AccessSettings, Authentication, IngressSettings, PressureSettings
from ingress.submission import Rules

BULK_S = 0.3
"""Long enough to be canceled meanwhile, short enough for those who follow it to the end."""
MODELS = {**INPUT_MODELS, JobKind.WEBHOOK: DeliveryRequest}
CALL = Call("made-up", 200)
REFUSED = JobError(ErrorCode.ROBOTS_DENIED, "Its robots.txt says no.", retryable=False)


TOKEN = Token("key_" + "0" * 32, "0" * 48)
"""The key of whoever tries."""
TENANT = "default"


class Keys(MemoryKeyStore):
    """With the key of an admin who cannot lose it: everything may be tried."""

    async def begin(self) -> None:
        quota = Quota(requests=10_000_000, window_s=86_400, open_jobs=100_000)
        admin = ApiKey(
            id=TOKEN.key_id,
            tenant=TENANT,
            name="whoever tries",
            role=Role.ADMIN,
            digest=digest_of(TOKEN.secret),
            created_at=_now(),
            quota=quota,
        )
        await self.add(admin)

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        return None if key_id == TOKEN.key_id else await super().revoke(tenant, key_id)


class Somebody:
    """Every third job fails; one of the bulk lane takes a while."""

    async def handle(self, job: Job, _request: BaseModel, write: Write, /) -> Outcome:
        if job.lane is Lane.BULK:
            await asyncio.sleep(BULK_S)
        if sum(job.id.encode()) % 3 == 0:
            return Failed(REFUSED, CALL)
        if job.kind is JobKind.LLM:
            for piece in ("by ", "and ", "by"):
                write(piece)
            return Succeeded('{"content":"by and by"}', CALL, Usage(2, 3))
        return Succeeded('{"made":"up"}', CALL)


async def main(port: int) -> None:
    """Serve until a signal."""
    store, broker, live = MemoryJobStore(_now), FakeBroker(), FakeLive()
    endpoints = MemoryEndpointStore()
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), processors=[structlog.processors.JSONRenderer()]
    )
    metrics, signals = Metrics(), StopSignals()
    signals.listen()
    keys = Keys(_now)
    await keys.begin()
    outside = Outside(
        Stores(store, MemoryBatchStore(), keys, MemoryPaceStore(), endpoints),
        broker.publisher(),
        live.ingress(),
        metrics,
        logger,
    )
    access = AccessSettings(authentication=Authentication.KEYS)
    pressure = PressureSettings()
    settings = IngressSettings(port=port, accept_timeout_s=30, max_wait_s=0.05, grace_s=1)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        rules = Rules(AttemptSettings(), AddressGuard())
        choices = Choices(settings, access, pressure, rules)
        services = await stack.enter_async_context(open_services(outside, choices))
        stops = await stack.enter_async_context(
            Watch(store.asked_to_stop, logger, name="stop", tick_s=1)
        )
        telling = Telling(live.worker(), Notifier(store, endpoints))
        for kind in JobKind:
            call = LeasedCall(store, Somebody(), stops, telling, logger, CallLimits(3600, 60))
            policy = ExecutionPolicy("somebody", 60, RetryPolicy())
            execution = Execution(store, call, MODELS[kind], policy, metrics, logger)
            pool = Pool(execution.execute, 1000, logger)
            stack.push_async_callback(pool.drain, 0, signals.drain)
            consuming = asyncio.create_task(broker.consumer(kind, 1000).run(pool.receive))
            stack.callback(consuming.cancel)
        app = create_app(lambda: nullcontext(services))
        connections = Connections(pressure, metrics)
        server = build_server(
            app, settings, connections, Stop(signals, lambda: None, services.hub.release)
        )
        await server.serve(sockets=[listener])


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
