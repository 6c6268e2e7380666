"""Confirmed sending over a connection of its own, kept alive for as long as the sender is open.

Theory of operation. One supervised task keeps a link, on it one channel with confirms, and makes
both anew when they are gone. `send` never waits for that: without a channel the answer is
UNAVAILABLE at once, and whoever asked leaves the message to the relay. Sends are pipelined: all
messages of a call are in flight together, in a window that bounds all calls.

A channel on which a send was given up (time limit, cancellation) is retired: what its confirms
mean is no longer certain. The new one opens at once; the old one closes when nobody waits on it.
When the broker blocks publishers, or the link is lost, all sends in flight are cut short.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)

from forebay.broker import NotPublished
from forebay.broker.connection import (
    CLOSE_WITHIN_S,
    Backoff,
    Link,
    open_link,
    while_alive,
)
from forebay.broker.envelope import Envelope
from forebay.errors import BrokerUnavailable
from forebay.settings import BrokerSettings
from forebay.tasks import canceled, end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class SenderTuning:
    """Intervals in seconds, and how much may be in flight."""

    backoff_base_s: float = 0.2
    backoff_cap_s: float = 5.0
    blocked_check_s: float = 0.1
    """How often to ask whether the broker blocks us: the library tells nobody by itself."""
    window: int = 1000
    """Messages sent and not yet confirmed, over all calls."""


@dataclass(frozen=True, slots=True)
class Use:
    """Who sends, and for what: the connection's name and the metrics' label."""

    name: str
    use: str


class _Route:
    """One channel with confirms, until it is retired."""

    def __init__(self, link: Link, channel: AbstractChannel) -> None:
        self.link = link
        self.retired = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self._channel = channel
        self._exchanges: dict[str, AbstractExchange] = {}
        self._in_flight = 0
        channel.close_callbacks.add(self._on_close)

    def _on_close(self, *_: object) -> None:
        self.retired.set()

    def begin(self) -> None:
        self._in_flight += 1
        self.idle.clear()

    def end(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self.idle.set()

    async def publish(self, exchange: str, envelope: Envelope) -> None:
        """Publish and wait for the confirm; raises what the library raises."""
        target = self._exchanges.get(exchange)
        if target is None:
            target = await self._channel.get_exchange(exchange, ensure=False)
            self._exchanges[exchange] = target
        # No `timeout=`: the library's own has left the channel's lock held (aiormq PR 175).
        await target.publish(_as_message(envelope), envelope.routing_key, mandatory=True)

    async def close(self, within_s: float) -> None:
        """Close the channel when nobody waits on it any more, or after `within_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.idle.wait()
        with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._channel.close()


class ConfirmedSender:
    """Sends envelopes and says of each whether the broker has it. Use it with `async with`."""

    def __init__(
        self,
        settings: BrokerSettings,
        use: Use,
        metrics: Metrics,
        logger: Logger,
        tuning: SenderTuning | None = None,
    ) -> None:
        self._settings = settings
        self._use = use
        self._metrics = metrics
        self._logger = logger.bind(use=use.use)
        self._tuning = tuning or SenderTuning()
        self._window = asyncio.Semaphore(self._tuning.window)
        self._backoff = Backoff(self._tuning.backoff_base_s, self._tuning.backoff_cap_s)
        self._route: _Route | None = None
        self._blocked = False
        self._ready = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, without waiting for it."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"{self._use.use} connection")

    async def close(self) -> None:
        """Close the connection; sends in flight end as UNAVAILABLE."""
        if self._keeper is not None:
            await end(self._keeper)
        await end(*self._closing)

    @property
    def connected(self) -> bool:
        """Whether a send would go out now."""
        return self._usable_route() is not None and not self._blocked

    @property
    def blocked(self) -> bool:
        """Whether the broker blocks publishers."""
        return self._blocked

    async def wait_connected(self) -> None:
        """Wait until there is a channel to send on."""
        await self._ready.wait()

    async def send(self, exchange: str, envelopes: Sequence[Envelope]) -> list[NotPublished | None]:
        """Send all, pipelined; None for each the broker confirmed. At most the publish timeout."""
        route = self._usable_route()
        if route is None or self._blocked:
            # A caller that asks again at once must not starve the task that reconnects.
            await asyncio.sleep(0)
            why = NotPublished.BLOCKED if self._blocked else NotPublished.UNAVAILABLE
            return [why] * len(envelopes)
        outcomes: list[NotPublished | None] = [NotPublished.TIMEOUT] * len(envelopes)
        route.begin()
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s) as limit:
                self._limits.add(limit)
                await self._send_all(route, exchange, envelopes, outcomes)
        except TimeoutError:
            route.retired.set()
            why = self._why_cut(route)
            return [why if one is NotPublished.TIMEOUT else one for one in outcomes]
        except asyncio.CancelledError:
            route.retired.set()
            raise
        finally:
            self._limits.discard(limit)
            route.end()
        return outcomes

    async def waiting(self, queue: str) -> int | None:
        """Messages ready in a queue; None when it is missing or cannot be asked now."""
        route = self._usable_route()
        if route is None or self._blocked:
            return None
        gone = (BrokerUnavailable, ChannelNotFoundEntity, TimeoutError, *CONNECTION_EXCEPTIONS)
        with suppress(*gone):
            async with asyncio.timeout(self._settings.publish_timeout_s):
                # A channel of its own: a missing queue closes the channel it is asked on.
                channel = await route.link.channel(confirms=False)
                try:
                    found = await channel.declare_queue(queue, passive=True)
                    return found.declaration_result.message_count
                finally:
                    await channel.close()
        return None

    def _usable_route(self) -> _Route | None:
        """The present channel, unless it was retired and its keeper has yet to hear of it."""
        route = self._route
        return None if route is None or route.retired.is_set() else route

    def _why_cut(self, route: _Route) -> NotPublished:
        if self._blocked:
            return NotPublished.BLOCKED
        return NotPublished.UNAVAILABLE if route.link.lost.is_set() else NotPublished.TIMEOUT

    async def _send_all(
        self,
        route: _Route,
        exchange: str,
        envelopes: Sequence[Envelope],
        outcomes: list[NotPublished | None],
    ) -> None:
        async with asyncio.TaskGroup() as group:
            for n, envelope in enumerate(envelopes):
                await self._window.acquire()
                task = group.create_task(self._send_one(route, exchange, envelope))
                task.add_done_callback(self._noting(outcomes, n))

    def _noting(
        self, outcomes: list[NotPublished | None], n: int
    ) -> Callable[[asyncio.Task[NotPublished | None]], None]:
        def note(task: asyncio.Task[NotPublished | None]) -> None:
            self._window.release()
            if not task.cancelled() and task.exception() is None:
                outcomes[n] = task.result()

        return note

    async def _send_one(
        self, route: _Route, exchange: str, envelope: Envelope
    ) -> NotPublished | None:
        try:
            await route.publish(exchange, envelope)
        except PublishError:
            return NotPublished.RETURNED
        except DeliveryError:
            return NotPublished.NACKED
        except ChannelNotFoundEntity as error:
            # The exchange itself is missing: like a missing queue, the topology is to be applied.
            self._logger.warning(LogEvent.PUBLISH_FAILED, exchange=exchange, error=str(error))
            return NotPublished.RETURNED
        except asyncio.CancelledError:
            if canceled():
                raise
            return NotPublished.UNAVAILABLE
        except CONNECTION_EXCEPTIONS as error:
            route.retired.set()
            self._logger.warning(LogEvent.PUBLISH_FAILED, exchange=exchange, error=str(error))
            return NotPublished.UNAVAILABLE
        return None

    async def _keep(self) -> None:
        """Keep a link for as long as the sender is open; never ends by itself."""
        while True:
            try:
                await self._keep_one()
            except BrokerUnavailable as error:
                self._logger.warning(LogEvent.BROKER_LOST, error=str(error))
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop=f"{self._use.use} connection")
            await asyncio.sleep(self._backoff.next())

    async def _keep_one(self) -> None:
        link = await open_link(self._settings, self._use.name)
        connected = self._metrics.broker_connected.labels(self._use.use)
        try:
            connected.set(1)
            self._logger.info(LogEvent.BROKER_CONNECTED, connection=self._use.name)
            await while_alive(link, self._keep_route(link), self._watch_blocked(link))
        finally:
            connected.set(0)
            self._cut_sends()
            await link.close()

    async def _keep_route(self, link: Link) -> None:
        while True:
            route = _Route(link, await link.channel(confirms=True))
            self._backoff.reset()
            self._route = route
            self._ready.set()
            try:
                await route.retired.wait()
            finally:
                self._ready.clear()
                self._route = None
            # A blocked connection is not read: neither a close nor an open would be answered.
            await link.unblocked()
            self._close_later(route)

    def _close_later(self, route: _Route) -> None:
        closing = route.close(self._settings.publish_timeout_s)
        task = asyncio.create_task(closing, name="retired channel")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _watch_blocked(self, link: Link) -> None:
        while True:
            await asyncio.sleep(self._tuning.blocked_check_s)
            if await link.blocked():
                self._set_blocked(True)
                try:
                    self._cut_sends()
                    await link.unblocked()
                finally:
                    self._set_blocked(False)

    def _set_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        self._metrics.broker_blocked.set(blocked)
        if blocked:
            self._logger.warning(LogEvent.BROKER_BLOCKED)
        else:
            self._logger.info(LogEvent.BROKER_UNBLOCKED)

    def _cut_sends(self) -> None:
        """End the sends in flight now: what they wait for does not come, or not soon."""
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(now)


def _as_message(envelope: Envelope) -> Message:
    return Message(
        body=envelope.body,
        headers=dict(envelope.headers),
        content_type=envelope.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        correlation_id=envelope.correlation_id,
        # The library finds a returned message by its id: it must be there and be unique.
        message_id=envelope.message_id or uuid.uuid4().hex,
        type=envelope.type,
    )
