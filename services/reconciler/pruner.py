"""The pruner removes pieces of large results that no job points to.

A worker leaves them when it dies after writing a result and before its job points to it, and a job
whose attempt succeeded leaves them when it is retried by hand. Their retention would remove them in
the end; with results kept for weeks that is late. Why nothing wanted is removed is told in
`forebay/store/results.py`.
"""

from __future__ import annotations

from forebay.store import JobStore
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class Pruner:
    """Walks over all large results, a step a turn, and begins anew at the end.

    How far it came is kept in memory: after a restart it begins anew, which costs a walk.

    Args:
        batch: pieces looked at in a turn.
    """

    def __init__(self, store: JobStore, metrics: Metrics, logger: Logger, *, batch: int) -> None:
        self._store = store
        self._metrics = metrics
        self._logger = logger
        self._batch = batch
        self._after: str | None = None

    async def turn(self) -> bool:
        """One step; True while it finds what to remove, for that seldom comes alone."""
        pruned = await self._store.prune(self._after, self._batch)
        self._after = pruned.reached
        if pruned.removed:
            self._metrics.pruned.inc(pruned.removed)
            self._logger.info(LogEvent.PRUNED, pieces=pruned.removed)
        return pruned.removed > 0
