"""Consuming the messages of one kind, from all its lanes, through any number of broken connections.

Theory of operation. `run` keeps one link; on it each lane has a keeper, which keeps one
subscription (a channel and a consumer with its own prefetch) and looks at it every few seconds. A
subscription that is gone is replaced on the same link; a lost link is replaced with backoff.
Nothing a worker holds is touched by that: a delivery whose channel died is settled into the void
and counted (settling.py).

The server can end a consumer without ending anything else (the queue was deleted, or moved). Where
it says so the keeper hears of it; where it does not, the watchdog finds out: messages ready, free
slots, nothing delivered.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from functools import partial

from aio_pika.abc import AbstractIncomingMessage

from forebay.broker import Receive
from forebay.broker.connection import Backoff, Link, connection_name, open_link, while_alive
from forebay.broker.envelope import read
from forebay.broker.lane_keeper import ConsumerDeaf, LaneKeeper
from forebay.broker.sender import ConfirmedSender, Use
from forebay.broker.settling import RabbitDelivery, Settler, opened
from forebay.broker.subscription import Subscription, Terms
from forebay.broker.topology import queue_name
from forebay.broker.watchdog import WatchTiming
from forebay.errors import BrokerUnavailable
from forebay.jobs import JobKind, Lane
from forebay.settings import BrokerSettings
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


class RabbitConsumer:
    """The `Consumer` on RabbitMQ; `prefetch` counts per lane. Close it after `run`, always."""

    timing = WatchTiming()
    """Intervals; another value is set before `run`."""

    def __init__(
        self,
        settings: BrokerSettings,
        kind: JobKind,
        prefetch: int,
        name: str,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._prefetch = prefetch
        self._name = name
        self._metrics = metrics
        self._logger = logger.bind(kind=kind.value)
        # Acks must go on while an alarm blocks publishers: dead letters have their own connection.
        use = Use(connection_name(f"{name} dead letters"), "dead_letter")
        self._dead_letters = ConfirmedSender(settings, use, metrics, self._logger)
        self._tags = itertools.count(1)
        self._link: Link | None = None
        self._trouble = "not connected to the broker yet"
        self._keepers: list[LaneKeeper] = []
        self._serving: asyncio.Task[None] | None = None
        self._stopping = False
        self._stopped = False
        self._late: list[RabbitDelivery] = []

    @property
    def lacking(self) -> str | None:
        """Why not every lane is being consumed now; None when all are."""
        if self._stopping:
            return "stopping"
        if self._link is None:
            return self._trouble
        if self._link.lost.is_set():
            return str(self._link.loss)
        lanes = [keeper.lacking for keeper in self._keepers]
        return "; ".join(dict.fromkeys(filter(None, lanes))) or None

    async def run(self, receive: Receive) -> None:
        """Consume until `stop` or cancellation; see `Consumer.run`."""
        if self._stopping:
            return
        self._dead_letters.start()
        settler = Settler(
            self._kind,
            self._dead_letters,
            self._metrics,
            self._logger,
            self.timing.dead_letter_pause_s,
        )
        self._keepers = [self._keeper(lane, settler, receive) for lane in Lane]
        self._serving = asyncio.create_task(self._serve(), name=f"{self._kind} consumer")
        try:
            await asyncio.wait({self._serving})
        finally:
            await end(self._serving)
        if not self._serving.cancelled():
            self._serving.result()
        elif not self._stopping:
            raise BrokerUnavailable("the consumer ended although nobody stopped it")

    async def stop(self) -> None:
        """Receive nothing more (basic.cancel). Deliveries in hand can still be settled."""
        self._stopping = True
        if self._serving is not None:
            await end(self._serving)
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        # Given back before the cancel, they would have come straight back to us.
        self._stopped = True
        for delivery in self._late:
            await delivery.give_back()

    async def close(self) -> None:
        """Close the connections; what is not settled goes back to the queue."""
        self._stopping = True
        if self._serving is not None:
            await end(self._serving)
        await self._drop_link()
        await self._dead_letters.close()

    def _keeper(self, lane: Lane, settler: Settler, receive: Receive) -> LaneKeeper:
        return LaneKeeper(
            partial(self._terms, lane),
            partial(self._on_message, lane, settler, receive),
            self.timing,
            self._metrics.consumer_rebuilds.labels(self._kind).inc,
            self._logger,
        )

    def _terms(self, lane: Lane) -> Terms:
        tag = f"{self._name}.{socket.gethostname()}.{next(self._tags)}"
        return Terms(queue_name(self._kind, lane), tag, self._prefetch)

    async def _serve(self) -> None:
        """Keep a link and the lanes on it; ends by `ConsumerDeaf` only."""
        backoff = Backoff(self.timing.backoff_base_s, self.timing.backoff_cap_s)
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._serve_link()
            except ConsumerDeaf:
                raise
            except BrokerUnavailable as lost:
                self._trouble = str(lost)
                self._logger.warning(LogEvent.BROKER_LOST, use="consume", error=str(lost))
            await self._drop_link()
            # Not at the connect: a broker that takes the connection and then refuses to let us
            # consume must not be asked again at once, for ever.
            if clock() - began > self.timing.backoff_cap_s:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _serve_link(self) -> None:
        name = connection_name(self._name)
        # Not closed when this task is canceled: what is in hand is still to be settled over it.
        self._link = link = await open_link(self._settings, name)
        connected = self._metrics.broker_connected.labels("consume")
        connected.set(1)
        self._logger.info(LogEvent.BROKER_CONNECTED, use="consume", connection=name)
        try:
            await while_alive(link, *(keeper.keep(link) for keeper in self._keepers))
        finally:
            connected.set(0)

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _on_message(
        self,
        lane: Lane,
        settler: Settler,
        receive: Receive,
        subscription: Subscription,
        incoming: AbstractIncomingMessage,
    ) -> None:
        message = read(opened(incoming), self._kind)
        delivery = RabbitDelivery(incoming, message, lane, settler)
        delivery.on_settled = subscription.settled
        if self._stopped:
            await delivery.give_back()
        elif self._stopping:
            self._late.append(delivery)
        else:
            receive(delivery)
