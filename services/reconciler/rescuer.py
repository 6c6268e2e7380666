"""The rescuer takes back jobs whose worker is gone, and ends jobs whose time limit passed.

A job is rescued because its lease ran out, never because of its age: a call ten leases long whose
worker still renews is left alone.
"""

from __future__ import annotations

from collections import Counter

from forebay.store import JobStore
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class Rescuer:
    """Rescues and expires, at most `batch` jobs a turn."""

    def __init__(self, store: JobStore, metrics: Metrics, logger: Logger, *, batch: int) -> None:
        self._store = store
        self._metrics = metrics
        self._logger = logger
        self._batch = batch

    async def turn(self) -> bool:
        """One batch of each; True when more may wait."""
        rescued = await self._store.rescue(self._batch)
        by_state = Counter(rescue.state for rescue in rescued)
        for state, count in by_state.items():
            self._metrics.rescued.labels(state).inc(count)
        if rescued:
            self._logger.warning(LogEvent.RESCUED, **{str(s): n for s, n in by_state.items()})
        expired = await self._store.expire(self._batch)
        if expired:
            self._logger.info(LogEvent.EXPIRED, jobs=expired)
        return self._batch in {len(rescued), expired}
