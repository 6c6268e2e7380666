"""Settling deliveries: the one place that acks, gives back or dead-letters.

A delivery belongs to the channel it came over. When that channel is dead nothing can be settled
any more: the broker delivers the message again, which is counted and otherwise left alone, for the
claim absorbs it. A delivery is never settled over another channel: the tag would name another
message there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from forebay.broker import DeadReason, JobMessage, Malformed
from forebay.broker.connection import CALL_WITHIN_S
from forebay.broker.envelope import Envelope, dead
from forebay.broker.sender import ConfirmedSender
from forebay.broker.topology import DEAD_EXCHANGE, routing_key
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.jobs import JobKind, Lane
from forebay.tasks import canceled
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics

_NOTHING: Callable[[], None] = lambda: None  # noqa: E731 -- the default of a hook


class RabbitDelivery:
    """The `Delivery` of RabbitMQ."""

    __slots__ = ("_incoming", "_lane", "_message", "_settled", "_settler", "on_settled")

    def __init__(
        self,
        incoming: AbstractIncomingMessage,
        message: JobMessage | Malformed,
        lane: Lane,
        settler: Settler,
    ) -> None:
        self._incoming = incoming
        self._message = message
        self._lane = lane
        self._settler = settler
        self._settled = False
        self.on_settled = _NOTHING
        """Called once, when it is settled or lost."""

    @property
    def message(self) -> JobMessage | Malformed:
        """What it says."""
        return self._message

    @property
    def lane(self) -> Lane:
        """The lane of the queue it came from."""
        return self._lane

    @property
    def redelivered(self) -> bool:
        """Whether the broker delivered it before."""
        return bool(self._incoming.redelivered)

    async def ack(self) -> None:
        """Done with it."""
        if self._begin():
            await self._settler.ack(self._incoming, "ack")

    async def give_back(self) -> None:
        """Back to the queue, for another worker."""
        if self._begin():
            await self._settler.give_back(self._incoming)

    async def dead_letter(self, reason: DeadReason, detail: str) -> None:
        """Into the dead queue of its kind, then done with it; back to the queue when it cannot."""
        if self._begin():
            await self._settler.dead_letter(self._incoming, self._lane, reason, detail)

    def _begin(self) -> bool:
        """Whether this is the first settle; a second would close the channel for all."""
        if self._settled:
            return False
        self._settled = True
        self.on_settled()
        return True


class Settler:
    """Settles the deliveries of one consumer."""

    def __init__(
        self,
        kind: JobKind,
        dead_letters: ConfirmedSender,
        metrics: Metrics,
        logger: Logger,
        pause_s: float,
    ) -> None:
        self._kind = kind
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._logger = logger
        self._pause_s = pause_s

    async def ack(self, incoming: AbstractIncomingMessage, how: str) -> None:
        """Tell the broker that it is done; counted as `how`."""
        await self._settle(incoming.ack, how)

    async def give_back(self, incoming: AbstractIncomingMessage) -> None:
        """Tell the broker to deliver it again."""
        await self._settle(lambda: incoming.nack(requeue=True), "give_back")

    async def dead_letter(
        self, incoming: AbstractIncomingMessage, lane: Lane, reason: DeadReason, detail: str
    ) -> None:
        """Publish it to the dead queue, and only when that is confirmed ack it."""
        letter = dead(opened(incoming), routing_key(self._kind, lane), reason, detail)
        crashpoint(CrashPoint.WORKER_BEFORE_DEAD_LETTER)
        (refused,) = await self._dead_letters.send(DEAD_EXCHANGE, [letter])
        if refused is None:
            self._logger.warning(
                LogEvent.MESSAGE_DEAD, kind=self._kind, reason=reason, job_id=letter.correlation_id
            )
            crashpoint(CrashPoint.WORKER_AFTER_DEAD_LETTER)
            await self.ack(incoming, "dead_letter")
            return
        self._logger.warning(LogEvent.PUBLISH_FAILED, exchange=DEAD_EXCHANGE, why=refused.value)
        # Given back at once it would return at once: a loop that burns its delivery limit.
        await asyncio.sleep(self._pause_s)
        await self.give_back(incoming)

    async def _settle(self, tell: Callable[[], Awaitable[None]], how: str) -> None:
        try:
            # The write queue of a connection that dies just now may never be emptied.
            async with asyncio.timeout(CALL_WITHIN_S):
                await tell()
        except asyncio.CancelledError:
            if canceled():
                raise
            self._lost(how, "the channel was lost")
        except CONNECTION_EXCEPTIONS as error:
            self._lost(how, str(error) or type(error).__name__)
        else:
            self._metrics.settled.labels(self._kind, how).inc()

    def _lost(self, how: str, error: str) -> None:
        self._metrics.settled.labels(self._kind, "lost").inc()
        self._logger.info(LogEvent.SETTLE_LOST, kind=self._kind, how=how, error=error)


def opened(incoming: AbstractIncomingMessage) -> Envelope:
    """The envelope of what the library delivered, with the headers of plain types only."""
    return Envelope(
        body=incoming.body,
        routing_key=incoming.routing_key or "",
        type=incoming.type,
        headers={
            name: value
            for name, value in incoming.headers.items()
            if isinstance(value, str | int | float | bool | bytes)
        },
        message_id=incoming.message_id,
        correlation_id=incoming.correlation_id,
        content_type=incoming.content_type,
    )
