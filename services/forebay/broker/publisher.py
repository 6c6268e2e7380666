"""Publishing jobs' messages: confirmed, mandatory, pipelined, and never an exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import uuid_utils

from forebay.broker import JobMessage, NotPublished
from forebay.broker.connection import connection_name
from forebay.broker.envelope import seal
from forebay.broker.sender import ConfirmedSender, SenderTuning, Use
from forebay.broker.topology import JOBS_EXCHANGE, queue_name
from forebay.jobs import JobKind, Lane
from forebay.settings import BrokerSettings
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class RabbitPublisher:
    """The `Publisher` on RabbitMQ. Use it with `async with`; entering never fails or waits.

    Limit of the confirm: it says that a majority of the queue's members has the message. A message
    answered TIMEOUT, UNAVAILABLE or BLOCKED may be in the queue or not: published again it is a
    duplicate, which the claim absorbs.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        name: str,
        metrics: Metrics,
        logger: Logger,
        tuning: SenderTuning | None = None,
    ) -> None:
        self._metrics = metrics
        self._logger = logger
        self._sender = ConfirmedSender(
            settings, Use(connection_name(name), "publish"), metrics, logger, tuning
        )

    async def __aenter__(self) -> Self:
        self._sender.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sender.close()

    @property
    def connected(self) -> bool:
        """Whether messages would go out now."""
        return self._sender.connected

    @property
    def blocked(self) -> bool:
        """Whether the broker blocks publishers (memory or disk alarm)."""
        return self._sender.blocked

    async def wait_connected(self) -> None:
        """Wait until the broker is there; for those who have nothing to do before."""
        await self._sender.wait_connected()

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        """Publish all, pipelined; see `Publisher.publish`."""
        if not messages:
            return []
        # Random, not time-ordered: nothing sorts by it.
        envelopes = [seal(message, uuid_utils.uuid4().hex) for message in messages]
        outcomes = await self._sender.send(JOBS_EXCHANGE, envelopes)
        self._tell(outcomes)
        return outcomes

    async def waiting(self, kind: JobKind, lane: Lane) -> int | None:
        """See `Queues.waiting`."""
        return await self._sender.waiting(queue_name(kind, lane))

    def _tell(self, outcomes: Sequence[NotPublished | None]) -> None:
        counts = Counter(outcomes)
        for outcome, count in counts.items():
            label = "confirmed" if outcome is None else outcome.value
            self._metrics.published.labels(label).inc(count)
        missing = {why.value: n for why, n in counts.items() if why is not None}
        if missing:
            self._logger.warning(LogEvent.PUBLISH_FAILED, **missing)
