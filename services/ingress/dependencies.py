"""What a request can reach, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

from starlette.requests import HTTPConnection

from forebay.store import JobStore
from forebay.store.batches import BatchStore
from forebay.store.watch import Watch
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from ingress.batches import Batches
from ingress.live import Hub
from ingress.readiness import Readiness
from ingress.settings import IngressSettings
from ingress.submission import Clock, Desk

DEFAULT_TENANT = "default"
"""Everybody, as long as no API key is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the routes use, opened by the composition root."""

    settings: IngressSettings
    store: JobStore
    desk: Desk
    batch_store: BatchStore
    batches: Batches
    waiting: Watch
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


def tenant_of(connection: HTTPConnection) -> str:  # noqa: ARG001 - open mode: nobody says who
    """The tenant of a request. Every route asks here and hands it on by name."""
    return DEFAULT_TENANT
