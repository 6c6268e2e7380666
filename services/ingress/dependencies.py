"""What a request can reach, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

from starlette.requests import HTTPConnection

from forebay.store import JobStore
from forebay.store.batches import BatchStore
from forebay.store.keys import KeyStore
from forebay.store.watch import Watch
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from ingress.batches import Batches
from ingress.bodies import Bodies
from ingress.gate import Caller, Gate
from ingress.keyring import KeyRing
from ingress.live import Hub
from ingress.readiness import Readiness
from ingress.room import Room
from ingress.settings import IngressSettings
from ingress.submission import Clock, Desk
from ingress.waiting_places import WaitingPlaces
from ingress.webhooks import Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the routes use, opened by the composition root."""

    settings: IngressSettings
    gate: Gate
    keys: KeyStore
    ring: KeyRing
    store: JobStore
    bodies: Bodies
    batch_bodies: Bodies
    desk: Desk
    batch_store: BatchStore
    batches: Batches
    webhooks: Webhooks
    waiting: Watch
    places: WaitingPlaces
    room: Room
    hub: Hub
    readiness: Readiness
    metrics: Metrics
    logger: Logger
    clock: Clock


class IngressState(TypedDict):
    """What the lifespan yields."""

    services: Services


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that serves this request."""
    return cast("Services", connection.state.services)


def caller_of(connection: HTTPConnection) -> Caller:
    """Who asks; fails on a route that nobody was admitted to."""
    return cast("Caller", connection.state.caller)


def tenant_of(connection: HTTPConnection) -> str:
    """The tenant of a request. Every route asks here and hands it on by name."""
    return caller_of(connection).tenant
