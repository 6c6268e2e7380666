"""How many consumers a lane has at a broker that is slow; in virtual time.

The client library closes a channel over a call that was given up, and its consumer with it. The
broker here does not hear of that: what the keeper leaves behind goes on being delivered to.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from forebay.broker.connection import CALL_WITHIN_S
from forebay.broker.lane_keeper import LaneKeeper
from forebay.broker.subscription import Subscription, Terms
from forebay.broker.watchdog import WatchTiming
from forebay.errors import BrokerUnavailable
from forebay.tasks import end
from tests.simulation.virtual_loop import VirtualLoop

TIMING = WatchTiming()
TOO_LONG_S = CALL_WITHIN_S * 2


class SlowLink:
    """A link to a broker with one queue; how long it takes to answer is the test's."""

    def __init__(self) -> None:
        self.consumers: dict[str, Callable[[Any], Coroutine[Any, Any, None]]] = {}
        """Who is delivered to, by the tag."""
        self.look_s = itertools.chain[float]()
        """How long the next looks take; later ones take no time."""
        self.cancel_s = itertools.chain[float]()
        self.canceling = asyncio.Event()
        self.consumed: asyncio.Queue[str] = asyncio.Queue()
        """The tags, as they come."""

    async def channel(self, *, confirms: bool) -> SlowChannel:
        assert not confirms
        return SlowChannel(self)


class SlowChannel:
    """A channel and its queue at once."""

    declaration_result = SimpleNamespace(message_count=0)

    def __init__(self, link: SlowLink) -> None:
        self.close_callbacks: set[object] = set()
        self.on_consumer_cancel_callbacks: set[object] = set()
        self._link = link
        self._tags: list[str] = []

    async def get_underlay_channel(self) -> SlowChannel:
        return self

    async def set_qos(self, prefetch_count: int) -> None:
        assert prefetch_count

    async def declare_queue(self, _: str, *, passive: bool) -> SlowChannel:
        assert passive
        if self._tags:
            await asyncio.sleep(next(self._link.look_s, 0))
        return self

    async def consume(self, callback: Any, consumer_tag: str) -> None:
        self._tags.append(consumer_tag)
        self._link.consumers[consumer_tag] = callback
        self._link.consumed.put_nowait(consumer_tag)

    async def cancel(self, tag: str) -> None:
        self._link.canceling.set()
        await asyncio.sleep(next(self._link.cancel_s, 0))
        del self._link.consumers[tag]

    async def close(self) -> None:
        for tag in self._tags:
            self._link.consumers.pop(tag, None)


class Lane:
    """One lane, kept over a slow link."""

    def __init__(self) -> None:
        tags = (f"consumer {n}" for n in itertools.count(1))
        self.link = SlowLink()
        self.keeper = LaneKeeper(
            lambda: Terms("queue", next(tags), 24),
            self._take,
            TIMING,
            lambda: None,
            structlog.wrap_logger(structlog.ReturnLogger(), processors=[]),
        )
        self.keeping = asyncio.create_task(self.keeper.keep(self.link), name="keeper")  # type: ignore[arg-type]

    async def _take(self, subscription: Subscription, _: Any) -> None:
        """Received and never settled: the call takes long."""

    async def deliver(self) -> None:
        """To everybody who consumes."""
        for callback in [*self.link.consumers.values()]:
            await callback("a message")

    async def consuming(self) -> str:
        """The tag of the next consumer."""
        async with asyncio.timeout(2 * TIMING.look_every_s):
            return await self.link.consumed.get()


def in_virtual_time(history: Callable[[], Coroutine[Any, Any, None]]) -> None:
    VirtualLoop().run(history())


def test_a_broker_that_is_slow_to_answer_a_look_has_one_consumer_of_each_lane() -> None:
    async def history() -> None:
        lane = Lane()
        lane.link.look_s = itertools.chain([TOO_LONG_S] * 3)
        for n in range(1, 5):
            tag = await lane.consuming()
            assert [*lane.link.consumers] == [tag] == [f"consumer {n}"]
            await lane.deliver()
        await end(lane.keeping)
        await lane.keeper.stop()
        assert not lane.link.consumers

    in_virtual_time(history)


def test_a_link_on_which_nobody_answers_to_a_cancel_is_of_no_use() -> None:
    async def history() -> None:
        lane = Lane()
        await lane.consuming()
        lane.link.look_s = itertools.chain([TOO_LONG_S])
        lane.link.cancel_s = itertools.chain([TOO_LONG_S])
        with pytest.raises(BrokerUnavailable, match="nobody answers"):
            async with asyncio.timeout(TIMING.look_every_s * 2):
                await lane.keeping
        assert lane.keeper.lacking is not None

    in_virtual_time(history)


def test_a_stop_that_comes_into_a_cancel_asks_once_more() -> None:
    async def history() -> None:
        lane = Lane()
        await lane.consuming()
        lane.link.look_s = itertools.chain([TOO_LONG_S])
        lane.link.cancel_s = itertools.chain([TOO_LONG_S])
        async with asyncio.timeout(TIMING.look_every_s * 2):
            await lane.link.canceling.wait()
        await end(lane.keeping)
        assert lane.link.consumers
        await lane.keeper.stop()
        assert not lane.link.consumers

    in_virtual_time(history)


def test_a_stop_that_nobody_answers_ends_all_the_same() -> None:
    async def history() -> None:
        lane = Lane()
        await lane.consuming()
        await end(lane.keeping)
        lane.link.cancel_s = itertools.chain([3600.0])
        began = asyncio.get_running_loop().time()
        await lane.keeper.stop()
        assert asyncio.get_running_loop().time() - began < CALL_WITHIN_S + 1
        assert lane.keeper.lacking is not None

    in_virtual_time(history)
