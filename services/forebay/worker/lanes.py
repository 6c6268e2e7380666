"""Which delivery is next: the interactive lane first, and a small share for the others.

A worker holds up to its prefetch of messages from every lane. Of ten takes eight go to the most
urgent lane that has something, one begins with `default` and one with `bulk`, so that a lane with
steady traffic above it still moves. A turn that finds its lane empty falls to the next: no slot
stays free while anything waits.
"""

from __future__ import annotations

from collections import deque
from itertools import cycle

from forebay.broker import Delivery
from forebay.jobs import Lane

_BY_URGENCY = (Lane.INTERACTIVE, Lane.DEFAULT, Lane.BULK)
_TURNS = (
    *[_BY_URGENCY] * 4,
    (Lane.DEFAULT, Lane.INTERACTIVE, Lane.BULK),
    *[_BY_URGENCY] * 4,
    (Lane.BULK, Lane.INTERACTIVE, Lane.DEFAULT),
)


class LaneBuffer:
    """Deliveries that wait for a free slot, by lane."""

    def __init__(self) -> None:
        self._waiting: dict[Lane, deque[Delivery]] = {lane: deque() for lane in Lane}
        self._turns = cycle(_TURNS)

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._waiting.values())

    def put(self, delivery: Delivery) -> None:
        """Add a delivery at the end of its lane."""
        self._waiting[delivery.lane].append(delivery)

    def take(self) -> Delivery | None:
        """The next delivery to work on; None when nothing waits (no turn is used up then)."""
        if not len(self):
            return None
        for lane in next(self._turns):
            if self._waiting[lane]:
                return self._waiting[lane].popleft()
        return None

    def empty(self) -> list[Delivery]:
        """Everything that waits, taken out."""
        rest = [delivery for lane in self._waiting.values() for delivery in lane]
        for lane in self._waiting.values():
            lane.clear()
        return rest
