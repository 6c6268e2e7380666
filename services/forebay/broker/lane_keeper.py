"""Keeping one lane consumed: a subscription, watched, and replaced when it is gone or deaf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from forebay.broker.connection import Backoff, Link
from forebay.broker.subscription import OnMessage, Subscription, Terms
from forebay.broker.watchdog import Look, Verdict, Watchdog, WatchTiming
from forebay.errors import BrokerUnavailable, TopologyMissing
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger


class ConsumerDeaf(BrokerUnavailable):
    """The consumer was rebuilt in vain: messages wait, slots are free, nothing is delivered."""


class LaneKeeper:
    """Keeps one lane consumed over whatever link it is given; lives as long as the consumer."""

    def __init__(
        self,
        terms: Callable[[], Terms],
        on_message: OnMessage,
        timing: WatchTiming,
        on_rebuild: Callable[[], None],
        logger: Logger,
    ) -> None:
        self._terms = terms
        self._on_message = on_message
        self._timing = timing
        self._on_rebuild = on_rebuild
        self._logger = logger
        self._watchdog = Watchdog(timing)
        self._backoff = Backoff(timing.backoff_base_s, timing.backoff_cap_s)
        self._received = 0
        self._trouble = "not consumed yet"
        self._retired: set[Subscription] = set()
        self._current: Subscription | None = None

    @property
    def lacking(self) -> str | None:
        """Why the lane is not delivered to this process now; None when it is."""
        return None if self._current is not None and self._current.active else self._trouble

    async def keep(self, link: Link) -> None:
        """Keep the lane consumed over this link; ends by an error or by cancellation.

        Raises `BrokerUnavailable` when the link is of no use, `ConsumerDeaf` when a fresh process
        should try. A queue that is not there is looked for again, at most `backoff_cap_s` apart.
        """
        # Channels of an earlier link died with it.
        self._retired.clear()
        while True:
            self._current = subscription = Subscription(self._terms(), self._on_message)
            if await self._begin(subscription, link):
                await self._watch(subscription)
                self._received += subscription.received
                await self._retire(subscription)
            await asyncio.sleep(self._backoff.next())

    async def _begin(self, subscription: Subscription, link: Link) -> bool:
        await subscription.open(link)
        try:
            await subscription.consume()
        except (TopologyMissing, BrokerUnavailable) as error:
            # A queue that is missing or has no leader must not cost the others their connection.
            self._trouble = str(error)
            self._logger.warning(LogEvent.BROKER_LOST, error=str(error))
            await subscription.close()
            return False
        self._trouble = f"{subscription.terms.queue}: the consumer ended"
        return True

    async def _watch(self, subscription: Subscription) -> None:
        """Return when the subscription is gone, or was ended because it was deaf."""
        while True:
            try:
                async with asyncio.timeout(self._timing.look_every_s):
                    await subscription.gone.wait()
            except TimeoutError:
                pass
            else:
                self._logger.warning(
                    LogEvent.BROKER_LOST, queue=subscription.terms.queue, error="consumer ended"
                )
                return
            match await self._look(subscription):
                case Verdict.GIVE_UP:
                    raise ConsumerDeaf(
                        f"{subscription.terms.queue} has messages and delivers none, "
                        f"{self._timing.rebuilds} new consumers did not help"
                    )
                case Verdict.REBUILD:
                    self._on_rebuild()
                    self._logger.error(LogEvent.CONSUMER_REBUILT, queue=subscription.terms.queue)
                    await subscription.cancel()
                    return
                case Verdict.FINE:
                    self._backoff.reset()

    async def _look(self, subscription: Subscription) -> Verdict:
        try:
            waiting = await subscription.waiting()
        except (TopologyMissing, BrokerUnavailable) as error:
            # The channel ended over it. On a link that fell silent nobody confirms that, and the
            # library waits for it until the heartbeat fails, 48 s later. A broker that is only slow
            # must not go on delivering to this consumer beside the next one.
            self._trouble = str(error)
            await subscription.cancel()
            subscription.gone.set()
            return Verdict.FINE
        return self._watchdog.judge(
            Look(
                waiting=waiting,
                free=subscription.terms.prefetch - subscription.held,
                received=self._received + subscription.received,
                at=asyncio.get_running_loop().time(),
            )
        )

    async def _retire(self, subscription: Subscription) -> None:
        """Keep the channel for what is held over it; close those over which nothing is held."""
        self._retired.add(subscription)
        for retired in [one for one in self._retired if one.held == 0]:
            self._retired.discard(retired)
            await retired.close()

    async def stop(self) -> None:
        """Receive nothing more. What is retired was canceled before, or the keeper had ended."""
        if self._current is not None:
            # Where nobody answers no more can be done: what comes still goes back with the link.
            with suppress(BrokerUnavailable):
                await self._current.cancel()
