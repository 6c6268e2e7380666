"""Publishing jobs' messages, live and dead: confirmed, mandatory, pipelined, never an exception."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import uuid_utils

from forebay.broker import DeadLetter, JobMessage, NotPublished
from forebay.broker.connection import connection_name
from forebay.broker.envelope import Envelope, dead, seal
from forebay.broker.sender import ConfirmedSender, SenderTuning, Use
from forebay.broker.topology import DEAD_EXCHANGE, JOBS_EXCHANGE, queue_name, routing_key
from forebay.jobs import JobKind, Lane
from forebay.settings import BrokerSettings
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class RabbitPublisher:
    """The `Publisher`, `Queues` and `DeadLetters` on RabbitMQ.

    Use it with `async with`; entering never fails or waits.

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

    async def bury(self, letters: Sequence[DeadLetter]) -> Sequence[NotPublished | None]:
        """See `DeadLetters.bury`."""
        if not letters:
            return []
        outcomes = await self._sender.send(DEAD_EXCHANGE, [_sealed_dead(one) for one in letters])
        for letter, why_not in zip(letters, outcomes, strict=True):
            about = {"kind": letter.message.kind, "reason": letter.reason}
            if why_not is None:
                self._logger.warning(LogEvent.MESSAGE_DEAD, job_id=letter.message.job_id, **about)
        self._warn(outcomes, exchange=DEAD_EXCHANGE)
        return outcomes

    async def waiting(self, kind: JobKind, lane: Lane) -> int | None:
        """See `Queues.waiting`."""
        return await self._sender.waiting(queue_name(kind, lane))

    def _tell(self, outcomes: Sequence[NotPublished | None]) -> None:
        counts = Counter(outcomes)
        for outcome, count in counts.items():
            label = "confirmed" if outcome is None else outcome.value
            self._metrics.published.labels(label).inc(count)
        self._warn(outcomes, exchange=JOBS_EXCHANGE)

    def _warn(self, outcomes: Sequence[NotPublished | None], exchange: str) -> None:
        missing = Counter(why.value for why in outcomes if why is not None)
        if missing:
            self._logger.warning(LogEvent.PUBLISH_FAILED, exchange=exchange, **missing)


def _sealed_dead(letter: DeadLetter) -> Envelope:
    """As a worker's dead letter: the message as it would be delivered, and the reason."""
    message = letter.message
    key = routing_key(message.kind, message.lane)
    return dead(seal(message, uuid_utils.uuid4().hex), key, letter.reason, letter.detail)
