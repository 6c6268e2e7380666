"""The census counts open jobs for the metrics: how many wait, and how long the oldest has."""

from __future__ import annotations

from datetime import UTC, datetime

from forebay.store import JobStore
from forebay.telemetry.metrics import Metrics


class Census:
    """Keeps the gauges of open jobs."""

    def __init__(self, store: JobStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def turn(self) -> bool:
        """Count once; there is never more to do at once."""
        backlog = await self._store.backlog()
        now = datetime.now(UTC)
        # A state without jobs is not in the answer: forget what was said of it.
        self._metrics.jobs.clear()
        self._metrics.oldest_seconds.clear()
        for part in backlog:
            labels = (part.kind, part.lane, part.state)
            self._metrics.jobs.labels(*labels).set(part.count)
            if part.oldest is not None:
                age_s = max((now - part.oldest).total_seconds(), 0.0)
                self._metrics.oldest_seconds.labels(*labels).set(age_s)
        return False
