"""The relay publishes what should be in the broker and is not.

Two sorts: jobs whose `not_before` has come (backoff, schedule), and queued jobs for which no
confirmed message is known, because the broker was away, refused it, or the process that accepted
the job died before it could publish. Publishing twice is harmless: the claim absorbs it.
"""

from __future__ import annotations

from collections.abc import Sequence

from forebay.broker import JobMessage, Publisher
from forebay.store import JobRef, JobStore
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class Relay:
    """Publishes from the store.

    Args:
        publish_after_s: how long whoever queued a job has to publish it himself.
        batch: jobs taken at once.
    """

    def __init__(
        self,
        store: JobStore,
        publisher: Publisher,
        metrics: Metrics,
        logger: Logger,
        *,
        publish_after_s: float,
        batch: int,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._logger = logger
        self._publish_after_s = publish_after_s
        self._batch = batch

    async def turn(self) -> bool:
        """Publish one batch of each sort; True when a full batch went out and more may wait."""
        due = await self._store.queue_due(self._batch)
        more_due = await self._publish("due", due)
        left = await self._store.unpublished(self._publish_after_s, self._batch)
        more_left = await self._publish("unpublished", left)
        return more_due or more_left

    async def _publish(self, reason: str, refs: Sequence[JobRef]) -> bool:
        if not refs:
            return False
        outcomes = await self._publisher.publish([message_for(ref) for ref in refs])
        confirmed = [ref for ref, failed in zip(refs, outcomes, strict=True) if failed is None]
        if confirmed:
            await self._store.mark_published(confirmed)
        self._metrics.relayed.labels(reason).inc(len(confirmed))
        self._logger.info(
            LogEvent.RELAY_PUBLISHED, reason=reason, wanted=len(refs), confirmed=len(confirmed)
        )
        # A batch that was not confirmed whole means a broker in trouble: wait a turn.
        return len(confirmed) == len(refs) == self._batch


def message_for(ref: JobRef) -> JobMessage:
    """The message that says: this job may run now."""
    return JobMessage(ref.id, ref.generation, ref.kind, ref.lane, ref.attempts, ref.traceparent)
