"""The notifier makes the deliveries that nobody else made.

A worker makes those of the jobs it ends. Jobs that were canceled or expired while they waited, or
failed because their last attempt was lost, end without a worker; and a worker may die in between.
"""

from __future__ import annotations

from forebay.store import JobStore
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.webhooks.notifier import Notifier


class NotifierLoop:
    """Tells of at most `batch` jobs a turn.

    Args:
        after_s: how long a worker has to do it itself.
        batch: jobs taken at once.
    """

    def __init__(
        self, store: JobStore, notifier: Notifier, logger: Logger, *, after_s: float, batch: int
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._logger = logger
        self._after_s = after_s
        self._batch = batch

    async def turn(self) -> bool:
        """One batch; True when more may wait."""
        jobs = await self._store.untold(self._after_s, self._batch)
        made = 0
        for job in jobs:
            made += await self._notifier.tell(job)
        if jobs:
            self._logger.info(LogEvent.NOTIFIED, jobs=len(jobs), deliveries=made)
        return len(jobs) == self._batch
