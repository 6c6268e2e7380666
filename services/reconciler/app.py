"""The reconciler's composition root."""

from __future__ import annotations

import asyncio

from forebay.broker.publisher import RabbitPublisher
from forebay.probes import Probes
from forebay.process import Process
from forebay.settings import BrokerSettings, ProbeSettings, StoreSettings, load
from forebay.store import JobStore
from forebay.store.endpoints import EndpointStore
from forebay.store.mongo import open_store
from forebay.store.paces import PaceStore
from forebay.store.patience import Preparation
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.webhooks.notifier import Notifier
from reconciler.census import Census
from reconciler.loop import Turn, run_loop
from reconciler.notifier import NotifierLoop
from reconciler.outbox import Outbox
from reconciler.pruner import Pruner
from reconciler.refiller import Refiller, RefillRules
from reconciler.relay import Relay
from reconciler.rescuer import Rescuer
from reconciler.settings import ReconcilerSettings


async def main(process: Process) -> None:
    """Run every loop until a stop signal. Each write is atomic, so nothing needs a drain."""
    settings = load(ReconcilerSettings)
    process.metrics.begin_reconciler()
    async with (
        open_store(load(StoreSettings), process.logger) as store,
        RabbitPublisher(
            load(BrokerSettings), process.name, process.metrics, process.logger
        ) as publisher,
    ):
        preparation = Preparation(store)
        loops = endless_loops(process, settings, store, store.paces, store.endpoints, publisher)
        async with Probes(load(ProbeSettings), process.metrics, lambda: preparation.lacking):
            if await preparation.run(process.signals.drain):
                await turn_until_stopped(process, loops)
            process.logger.info(LogEvent.PROCESS_STOPPING)


def endless_loops(
    process: Process,
    settings: ReconcilerSettings,
    store: JobStore,
    paces: PaceStore,
    endpoints: EndpointStore,
    publisher: RabbitPublisher,
) -> dict[str, tuple[Turn, float]]:
    """Every loop by its name: one turn of it, and the pause between two in seconds."""
    metrics, logger = process.metrics, process.logger
    outbox = Outbox(store, publisher, metrics, logger)
    relay = Relay(store, outbox, publish_after_s=settings.publish_after_s, batch=settings.batch)
    rules = RefillRules(settings.lost_after_s, settings.batch)
    refiller = Refiller(store, publisher, outbox, logger, rules)
    rescuer = Rescuer(store, publisher, metrics, logger, batch=settings.batch)
    pruner = Pruner(store, metrics, logger, batch=settings.batch)
    notifier = NotifierLoop(
        store,
        Notifier(store, endpoints),
        logger,
        after_s=settings.notify_after_s,
        batch=settings.batch,
    )
    return {
        "relay": (relay.turn, settings.relay_every_s),
        "rescuer": (rescuer.turn, settings.rescuer_every_s),
        "refiller": (refiller.turn, settings.refiller_every_s),
        "notifier": (notifier.turn, settings.notifier_every_s),
        "pruner": (pruner.turn, settings.pruner_every_s),
        "census": (Census(store, paces, metrics).turn, settings.census_every_s),
    }


async def turn_until_stopped(process: Process, loops: dict[str, tuple[Turn, float]]) -> None:
    """Turn all of them until a stop signal; raises what a loop ended with, as none should."""
    tasks = [
        asyncio.create_task(
            run_loop(name, turn, every_s, process.metrics, process.logger), name=name
        )
        for name, (turn, every_s) in loops.items()
    ]
    stopping = asyncio.create_task(process.signals.drain.wait(), name="stop signal")
    await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    await end(stopping, *tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()  # a loop never ends by itself: the supervisor must hear of it
