"""One lane consumed over one channel, until the channel or the consumer is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from forebay.broker.connection import CALL_WITHIN_S, Link, translated
from forebay.errors import BrokerUnavailable, TopologyMissing

OnMessage = Callable[["Subscription", AbstractIncomingMessage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What to consume and how."""

    queue: str
    tag: str
    prefetch: int


class Subscription:
    """A consumer on the broker and the channel it lives on.

    The channel outlives the consumer: after a cancel, of ours or of the server's, what was
    delivered can still be settled over it.
    """

    def __init__(self, terms: Terms, on_message: OnMessage) -> None:
        self.terms = terms
        self.gone = asyncio.Event()
        """Set when the broker delivers nothing more to it, whatever the reason."""
        self.held = 0
        """Deliveries not settled: they take slots of the prefetch."""
        self.received = 0
        self._on_message = on_message
        self._channel: AbstractChannel | None = None
        self._queue: AbstractQueue | None = None
        self._begun = False
        self._delivers = False

    async def open(self, link: Link) -> None:
        """Open its channel; raises `BrokerUnavailable` when the link is of no use."""
        self._channel = channel = await link.channel(confirms=False)
        channel.close_callbacks.add(self._on_gone)
        # aio-pika tells of a server-side cancel on its restoring channels only; the layer below
        # tells everybody (aio-pika issue 334).
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(self._on_gone)

    async def consume(self) -> None:
        """Start to consume; raises `TopologyMissing` or `BrokerUnavailable`, of this queue only."""
        assert self._channel is not None  # noqa: S101 -- open() came first
        with translated(f"cannot consume {self.terms.queue}"):
            async with asyncio.timeout(CALL_WITHIN_S):
                self._queue = await self._channel.declare_queue(self.terms.queue, passive=True)
                await self._channel.set_qos(prefetch_count=self.terms.prefetch)
                self._delivers = True
                await self._queue.consume(self._deliver, consumer_tag=self.terms.tag)
        self._begun = True

    async def _deliver(self, incoming: AbstractIncomingMessage) -> None:
        self.received += 1
        self.held += 1
        await self._on_message(self, incoming)

    def _on_gone(self, *_: object) -> None:
        self._delivers = False
        self.gone.set()

    def settled(self) -> None:
        """One of its deliveries was settled."""
        self.held -= 1

    @property
    def active(self) -> bool:
        """Whether it is being delivered to."""
        return self._begun and not self.gone.is_set()

    async def waiting(self) -> int:
        """Messages ready in the queue; raises `TopologyMissing` or `BrokerUnavailable`."""
        assert self._channel is not None  # noqa: S101 -- open() came first
        with translated(f"cannot look at {self.terms.queue}"):
            async with asyncio.timeout(CALL_WITHIN_S):
                queue = await self._channel.declare_queue(self.terms.queue, passive=True)
        return queue.declaration_result.message_count or 0

    async def cancel(self) -> None:
        """Receive nothing more; the channel stays for what is held.

        Raises `BrokerUnavailable` when nobody answers: the broker may go on delivering, and only
        the end of the connection is the end of that. Called again, it asks again.
        """
        if self._queue is None or not self._delivers:
            return
        try:
            async with asyncio.timeout(CALL_WITHIN_S):
                # A channel that is closed delivers nothing: there is nothing to cancel.
                with suppress(BrokerUnavailable, TopologyMissing), translated("canceling"):
                    await self._queue.cancel(self.terms.tag)
        except TimeoutError as silent:
            what = f"{self.terms.queue}: nobody answers to the cancel of its consumer"
            raise BrokerUnavailable(what) from silent
        finally:
            self.gone.set()
        self._delivers = False

    async def close(self) -> None:
        """Close the channel; what is held goes back to the queue."""
        if self._channel is None:
            return
        with suppress(BrokerUnavailable, TopologyMissing), translated("closing the channel"):
            async with asyncio.timeout(CALL_WITHIN_S):
                await self._channel.close()
