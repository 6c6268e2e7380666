"""A worker process from its start to its drain: the composition that all kinds share."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from forebay.broker import Consumer
from forebay.broker.consumer import RabbitConsumer
from forebay.broker.live import RabbitLive
from forebay.broker.topology import ASKS_EXCHANGE
from forebay.jobs import JobKind
from forebay.probes import Probes
from forebay.process import Process
from forebay.retry import Backoff
from forebay.settings import BrokerSettings, ProbeSettings, StoreSettings, WorkerSettings, load
from forebay.store.mongo import open_store
from forebay.store.patience import Preparation
from forebay.store.watch import Watch
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.webhooks.notifier import Notifier
from forebay.worker import Handler
from forebay.worker.call import CallLimits, LeasedCall
from forebay.worker.execution import Execution, ExecutionPolicy
from forebay.worker.pool import Pool
from forebay.worker.tally import Tally
from forebay.worker.telling import Telling

Request = TypeVar("Request", bound=BaseModel)

LOOK_S = 1.0
"""How often the store is asked which of the running calls are to stop."""


@dataclass(frozen=True, slots=True)
class WorkerSpec(Generic[Request]):
    """What makes one worker different from another."""

    kind: JobKind
    request_model: type[Request]
    handler: Handler[Request]
    settings: WorkerSettings
    backoff: Backoff


async def run_worker(process: Process, spec: WorkerSpec[Request]) -> None:
    """Work until a stop signal, then drain. Raises `ForebayError` when a part ended by itself."""
    settings = spec.settings
    process.metrics.begin_worker(spec.kind)
    broker = load(BrokerSettings)
    voice = RabbitLive(broker, process.name, ASKS_EXCHANGE, process.metrics, process.logger)
    async with (
        open_store(load(StoreSettings), process.logger) as store,
        Tally(store.paces, process.logger) as tally,
    ):
        telling = Telling(voice, Notifier(store, store.endpoints), tally.ended)
        async with (
            Watch(store.asked_to_stop, process.logger, name="stop", tick_s=LOOK_S) as stops,
            voice.heard_by(telling.heard),
        ):
            execution = Execution(
                store,
                LeasedCall(
                    store,
                    spec.handler,
                    stops,
                    telling,
                    process.logger,
                    CallLimits(settings.timeout_s, settings.lease_s),
                ),
                spec.request_model,
                ExecutionPolicy(
                    worker=f"{process.name}-{uuid.uuid4().hex}",
                    lease_s=settings.lease_s,
                    retry=spec.backoff,
                ),
                process.metrics,
                process.logger,
            )
            pool = Pool(execution.execute, settings.concurrency, process.logger)
            consumer = RabbitConsumer(
                broker,
                kind=spec.kind,
                prefetch=settings.prefetch_or_default,
                name=process.name,
                metrics=process.metrics,
                logger=process.logger,
            )
            preparation = Preparation(store)
            async with Probes(
                load(ProbeSettings),
                process.metrics,
                lambda: preparation.lacking or consumer.lacking,
            ):
                await serve(process, preparation, consumer, pool, settings.grace_s)


async def serve(
    process: Process, preparation: Preparation, consumer: Consumer, pool: Pool, grace_s: float
) -> None:
    """Consume until a stop signal; then stop receiving, drain the pool, close.

    A worker without its store can do nothing, so the store is waited for first.
    """
    consuming = asyncio.create_task(_consume(process, preparation, consumer, pool), name="consumer")
    stopping = asyncio.create_task(process.signals.drain.wait(), name="stop signal")
    try:
        await asyncio.wait({consuming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        process.logger.info(LogEvent.PROCESS_STOPPING, grace_s=grace_s)
        await consumer.stop()
        drained = await pool.drain(grace_s, process.signals.end_now)
        process.logger.info(LogEvent.DRAINED, **asdict(drained))
    finally:
        await consumer.close()
        await end(stopping, consuming)
    if not consuming.cancelled() and (error := consuming.exception()) is not None:
        raise error


async def _consume(
    process: Process, preparation: Preparation, consumer: Consumer, pool: Pool
) -> None:
    if await preparation.run(process.signals.drain):
        await consumer.run(pool.receive)
