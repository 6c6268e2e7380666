"""The composition root of the ingress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.middleware import Middleware

from forebay import __version__
from forebay.addresses import AddressGuard
from forebay.broker import Publisher
from forebay.broker.live import RabbitLive
from forebay.broker.publisher import RabbitPublisher
from forebay.broker.topology import LIVE_EXCHANGE
from forebay.process import Process
from forebay.progress import Live
from forebay.settings import AddressSettings, AttemptSettings, BrokerSettings, StoreSettings, load
from forebay.store import JobStore
from forebay.store.batches import BatchStore
from forebay.store.endpoints import EndpointStore
from forebay.store.group_commit import GroupCommit, PendingLimits
from forebay.store.keys import KeyStore
from forebay.store.mongo import open_store
from forebay.store.paces import PaceStore
from forebay.store.patience import Preparation
from forebay.store.watch import Watch
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from ingress.batches import Batches
from ingress.bodies import Bodies
from ingress.connections import Connections, most_connections
from ingress.dependencies import IngressState, Services
from ingress.door import Door
from ingress.error_handlers import EXCEPTION_HANDLERS, LastResort
from ingress.gate import Gate, KeyGate, OpenGate
from ingress.keyring import KeyRing
from ingress.live import Hub
from ingress.open_jobs import OpenJobs
from ingress.openapi import describe
from ingress.publishing import PublishPump
from ingress.readiness import Readiness
from ingress.request_quota import RequestQuota
from ingress.room import Room
from ingress.routes import (
    batches,
    control,
    docs,
    events,
    health,
    jobs,
    keys,
    replay,
    submit,
    webhook_deliveries,
    webhook_endpoints,
)
from ingress.server import Stop, build_server, listen
from ingress.settings import AccessSettings, Authentication, IngressSettings, PressureSettings
from ingress.submission import Bounds, Clock, Desk, JobBuilder, Rules, utc_now
from ingress.waiting_places import WaitingPlaces
from ingress.webhooks import Webhooks

LOOK_S = 2.0
"""How often the store is asked which of the jobs that callers wait for are done: they hear of it
sooner, but a word may be lost."""


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept, each part with calls of its own."""

    jobs: JobStore
    batches: BatchStore
    keys: KeyStore
    paces: PaceStore
    endpoints: EndpointStore


@dataclass(frozen=True, slots=True)
class Outside:
    """What the ingress stands on; real in the process, the shipped fakes in fast tests."""

    stores: Stores
    publisher: Publisher
    live: Live
    metrics: Metrics
    logger: Logger
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class Choices:
    """How the ingress is set up."""

    settings: IngressSettings
    access: AccessSettings
    pressure: PressureSettings
    rules: Rules


OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


async def main(process: Process) -> None:
    """Run the ingress until a stop signal; raises `ForebayError` when it cannot begin."""
    settings = load(IngressSettings)
    access = load(AccessSettings)
    settings.require_safe_address(access.authentication)
    addresses = load(AddressSettings)
    rules = Rules(
        load(AttemptSettings),
        AddressGuard(addresses.allowed),
        AddressGuard(addresses.webhook_allowed),
    )
    pressure = load(PressureSettings)
    choices = Choices(settings, access, pressure, rules)
    broker, mongodb = load(BrokerSettings), load(StoreSettings)
    async with AsyncExitStack() as stack:
        # Bound, so that a taken port is said at once; nobody is let in before the store is there.
        listener = stack.enter_context(listen(settings))
        store = await stack.enter_async_context(open_store(mongodb, process.logger))
        if not await Preparation(store).run(process.signals.drain):
            process.logger.info(LogEvent.PROCESS_STOPPING)
            return
        publisher = await stack.enter_async_context(
            RabbitPublisher(broker, process.name, process.metrics, process.logger)
        )
        live = RabbitLive(broker, process.name, LIVE_EXCHANGE, process.metrics, process.logger)
        outside = Outside(
            Stores(store, store.batches, store.keys, store.paces, store.endpoints),
            publisher,
            live,
            process.metrics,
            process.logger,
        )
        services = await stack.enter_async_context(open_services(outside, choices))
        app = create_app(lambda: nullcontext(services))
        stop = Stop(process.signals, lambda: _leave(process, services), services.hub.release)
        server = build_server(app, settings, Connections(pressure, process.metrics), stop)
        host, port, *_ = listener.getsockname()
        if access.authentication is Authentication.OPEN:
            process.logger.warning(LogEvent.OPEN_MODE, host=host, port=port)
        else:
            process.logger.info(LogEvent.KEY_MODE, host=host, port=port)
        await server.serve(sockets=[listener])
        process.logger.info(LogEvent.PROCESS_STOPPING)


def _leave(process: Process, services: Services) -> None:
    services.readiness.leave()
    process.logger.info(LogEvent.LEAVING, lame_duck_s=services.settings.lame_duck_s)


@asynccontextmanager
async def open_services(outside: Outside, choices: Choices) -> AsyncIterator[Services]:
    """The ingress's own parts, in the order in which they need each other.

    Left in the opposite order: waiting callers first, then the last commits, then the pump drains.
    """
    stores, logger = outside.stores, outside.logger
    settings, pressure = choices.settings, choices.pressure
    store = stores.jobs
    async with (
        AsyncExitStack() as stack,
        PublishPump(
            outside.publisher,
            store,
            logger,
            max_pending=settings.max_unpublished,
            grace_s=settings.grace_s,
        ) as pump,
        GroupCommit(
            store, limits=PendingLimits(answer_within_s=settings.accept_timeout_s)
        ) as commit,
        Watch(store.finished, logger, name="wait", tick_s=LOOK_S) as waiting,
        Room(stores.paces, pressure.max_backlog_age_s, logger) as room,
    ):
        hub = Hub(waiting, outside.live)
        await stack.enter_async_context(outside.live.heard_by(hub.heard))
        builder, bounds = (
            JobBuilder(choices.rules, outside.clock),
            Bounds(settings, room, OpenJobs(store)),
        )
        ring = KeyRing(stores.keys, choices.access.key_max_age_s)
        yield Services(
            settings=settings,
            gate=_gate(choices, ring, outside),
            keys=stores.keys,
            ring=ring,
            store=store,
            bodies=Bodies(
                settings.max_body_bytes, settings.body_timeout_s, pressure.max_held_bytes
            ),
            batch_bodies=Bodies(
                settings.max_batch_bytes, settings.batch_timeout_s, pressure.max_held_batch_bytes
            ),
            desk=Desk(builder, commit, store, pump, outside.metrics, bounds),
            batch_store=stores.batches,
            batches=Batches(builder, store, stores.batches, pump, outside.clock, bounds),
            webhooks=Webhooks(stores.endpoints, store, choices.rules.webhook_guard, outside.clock),
            waiting=waiting,
            places=WaitingPlaces(most_connections(choices.pressure.max_connections)),
            room=room,
            hub=hub,
            readiness=Readiness(store),
            metrics=outside.metrics,
            logger=logger,
            clock=outside.clock,
        )


def _gate(choices: Choices, ring: KeyRing, outside: Outside) -> Gate:
    if choices.access.authentication is Authentication.OPEN:
        return OpenGate(any_host=choices.settings.allow_open)
    return KeyGate(ring, RequestQuota(outside.stores.keys, outside.clock), outside.clock)


def create_app(open_services: OpenServices) -> FastAPI:
    """The application; its lifespan holds the services and yields them as the typed state."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[IngressState]:
        async with open_services() as services:
            yield IngressState(services=services)

    app = FastAPI(
        title="Forebay",
        version=__version__,
        description="Accepts slow API calls at once and digests them at the rate they bear.",
        docs_url=None,
        redoc_url=None,
        # A path that is not ours is 404; a redirect would send the caller to what its Host says.
        redirect_slashes=False,
        # Its spans and log records would carry the messages of exceptions; tracing will be our own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[Middleware(Door), Middleware(LastResort)],
    )
    # As they are, not by `include_router`: its indirection costs more than the matching itself.
    # Submitting comes first, because routes are tried in this order.
    webhooks = (webhook_endpoints, webhook_deliveries)
    for routes in (submit, replay, jobs, control, events, batches, *webhooks, keys, health):
        app.router.routes.extend(routes.router.routes)
    docs.add_docs(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign] # the documented way
    return app


def describe_app() -> FastAPI:
    """The application for its description alone; it cannot serve."""

    def closed() -> AbstractAsyncContextManager[Services]:
        raise RuntimeError("made to be described, not to serve")

    return create_app(closed)
