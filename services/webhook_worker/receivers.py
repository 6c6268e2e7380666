"""So many deliveries to one receiver at a time, and no more: the others' places stay free.

Theory of operation. A receiver is a host and port. While it has all its places taken, what comes
for it is put back into the store without being counted, until its turn. Turns are given out one
after the other, as far apart as this receiver lately took for a delivery, divided by its places. So
ten thousand deliveries to one that hangs come back a few at a time instead of all together again
and again, and to a quick one they follow each other closely.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from forebay.addresses import SCHEME_PORTS

FIRST_GUESS_S = 0.1
"""What a delivery takes, as long as nothing is known."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.5, 300.0
"""Of a turn. The relay looks twice a second; and an estimate is only that."""
_WEIGHT = 0.2
"""Of the newest delivery in the estimate: it follows a change within about ten."""
_MOST_IDLE = 1000
"""Receivers remembered; beyond that, those with nothing under way are forgotten."""


@dataclass(slots=True)
class _Receiver:
    taken: int = 0
    takes_s: float = FIRST_GUESS_S
    next_turn: float = field(default=0.0)


class Receivers:
    """The places of all receivers, in this process.

    Args:
        places: of each.
        clock: seconds that only grow.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._receivers: dict[tuple[str, int], _Receiver] = {}

    @contextmanager
    def place(self, url: str) -> Iterator[float]:
        """A place at the URL's receiver until the end of the block: 0 seconds to wait, it is taken.

        Otherwise none is free, and it says in how many seconds to come back.
        """
        receiver = self._of(url)
        if receiver.taken >= self._places:
            yield self._turn(receiver)
            return
        receiver.taken += 1
        began = self._clock()
        try:
            yield 0.0
        finally:
            receiver.taken -= 1
            took_s = self._clock() - began
            receiver.takes_s += _WEIGHT * (took_s - receiver.takes_s)

    def _turn(self, receiver: _Receiver) -> float:
        now = self._clock()
        soonest, latest = now + SHORTEST_WAIT_S, now + LONGEST_WAIT_S
        apart_s = receiver.takes_s / self._places
        receiver.next_turn = min(max(receiver.next_turn + apart_s, soonest), latest)
        return receiver.next_turn - now

    def _of(self, url: str) -> _Receiver:
        if len(self._receivers) > _MOST_IDLE:
            now = self._clock()
            self._receivers = {
                name: one
                for name, one in self._receivers.items()
                if one.taken or one.next_turn > now
            }
        parts = urlsplit(url)
        port = parts.port or SCHEME_PORTS.get(parts.scheme, 0)
        return self._receivers.setdefault((parts.hostname or "", port), _Receiver())
