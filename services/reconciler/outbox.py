"""From the store into the broker: publish a batch, and note in the store what was confirmed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.broker import JobMessage, NotPublished, Publisher
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.store import JobRef, JobStore, Route
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics

_REFUSALS = frozenset({NotPublished.NACKED, NotPublished.RETURNED})
_SILENCE = frozenset({NotPublished.TIMEOUT})


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a batch."""

    confirmed: int
    refused: frozenset[Route] = frozenset()
    """Routes whose queue is full or not bound."""
    silent: frozenset[Route] = frozenset()
    """Routes of which nothing at all was answered in time: a queue without a majority."""


class Outbox:
    """Publishes jobs by their references."""

    def __init__(
        self, store: JobStore, publisher: Publisher, metrics: Metrics, logger: Logger
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._logger = logger

    async def publish(self, reason: str, refs: Sequence[JobRef]) -> Sent:
        """Publish all; what is not confirmed stays unpublished. `reason` is for the metrics."""
        if not refs:
            return Sent(0)
        crashpoint(CrashPoint.OUTBOX_BEFORE_PUBLISH)
        outcomes = await self._publisher.publish([message_for(ref) for ref in refs])
        pairs = list(zip(refs, outcomes, strict=True))
        confirmed = [ref for ref, why_not in pairs if why_not is None]
        if confirmed:
            crashpoint(CrashPoint.OUTBOX_AFTER_PUBLISH)
        await self._store.mark_published(confirmed)
        self._metrics.relayed.labels(reason).inc(len(confirmed))
        self._logger.info(
            LogEvent.RELAY_PUBLISHED, reason=reason, wanted=len(refs), confirmed=len(confirmed)
        )
        said = _said_of_routes(pairs)
        return Sent(
            len(confirmed),
            refused=frozenset(route for route, said_of in said.items() if said_of & _REFUSALS),
            silent=frozenset(route for route, said_of in said.items() if said_of == _SILENCE),
        )


def _said_of_routes(
    pairs: Sequence[tuple[JobRef, NotPublished | None]],
) -> dict[Route, set[NotPublished | None]]:
    said: dict[Route, set[NotPublished | None]] = defaultdict(set)
    for ref, why_not in pairs:
        said[ref.kind, ref.lane].add(why_not)
    return said


def message_for(ref: JobRef) -> JobMessage:
    """The message that says: this job may run now."""
    return JobMessage(ref.id, ref.generation, ref.kind, ref.lane, ref.attempts, ref.traceparent)
