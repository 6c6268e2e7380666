"""The census counts open jobs: for the metrics, and for who decides whether more can be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from forebay.jobs import JobState
from forebay.pace import Pacer, Route, Waiting
from forebay.store import Backlog, JobStore
from forebay.store.paces import PaceStore
from forebay.telemetry.metrics import Metrics
from reconciler.loop import loop_time


class Census:
    """Keeps the gauges of open jobs, and tells every ingress the paces of the queues.

    Of two reconcilers each tells what it saw itself; both see the same.
    """

    def __init__(
        self,
        store: JobStore,
        paces: PaceStore,
        metrics: Metrics,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        self._store = store
        self._paces = paces
        self._metrics = metrics
        self._clock = clock
        self._pacer = Pacer()

    async def turn(self) -> bool:
        """Count once; there is never more to do at once."""
        backlog = await self._store.backlog()
        now = datetime.now(UTC)
        self._show(backlog, now)
        ended = await self._paces.ended()
        paces = self._pacer.look(self._clock(), _waiting(backlog, now), ended)
        self._metrics.drain_rate.clear()
        for pace in paces:
            if pace.per_s is not None:
                self._metrics.drain_rate.labels(*pace.route).set(pace.per_s)
        if paces:
            await self._paces.tell(paces)
        return False

    def _show(self, backlog: Sequence[Backlog], now: datetime) -> None:
        # A state without jobs is not in the answer: forget what was said of it.
        self._metrics.jobs.clear()
        self._metrics.oldest_seconds.clear()
        for part in backlog:
            labels = (part.kind, part.lane, part.state)
            self._metrics.jobs.labels(*labels).set(part.count)
            if part.oldest is not None:
                self._metrics.oldest_seconds.labels(*labels).set(_age_s(part, now))


def _waiting(backlog: Sequence[Backlog], now: datetime) -> Mapping[Route, Waiting]:
    """What waits for a worker, and what waits for its next attempt; not what is scheduled."""
    waiting: dict[Route, Waiting] = {}
    for part in backlog:
        if part.state not in (JobState.QUEUED, JobState.RETRYING):
            continue
        route = part.kind, part.lane
        there = waiting.get(route, Waiting())
        waiting[route] = (
            replace(there, ready=part.count, oldest_s=_age_s(part, now))
            if part.state is JobState.QUEUED
            else replace(there, later=part.count)
        )
    return waiting


def _age_s(part: Backlog, now: datetime) -> float:
    return 0.0 if part.oldest is None else max((now - part.oldest).total_seconds(), 0.0)
