"""Places for callers who wait: long-polls and streams hold a connection and do nothing with it.

Nobody who waits makes way for another (`ingress.connections`), so they may not have every place:
a part is left to those who are answered at once, and to the probe that decides whether this process
lives. Of the places to wait in a tenant is given one more as long as it has fewer than are free.
So one tenant has at most half of them, and there is always one left for another: with two who want
all, each has a third. Where no API key is asked for there is one tenant, who may have them all.

Limit: the keys of one tenant share, and may take the places from each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ingress.gate import Caller

SHARE = 0.8
"""Of all connections."""


class WaitingPlaces:
    """Who waits in this replica, and whether one more may.

    Args:
        connections: how many there may be in all.
    """

    def __init__(self, connections: int) -> None:
        self._most = int(connections * SHARE)
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: Caller) -> Iterator[bool]:
        """Whether there is a place for the caller; if so they have it inside."""
        if not self._has_one_for(caller):
            yield False
            return
        self._taken[caller.tenant] += 1
        try:
            yield True
        finally:
            self._taken[caller.tenant] -= 1
            if not self._taken[caller.tenant]:
                del self._taken[caller.tenant]

    def _has_one_for(self, caller: Caller) -> bool:
        free = self._most - self._taken.total()
        return free > (0 if caller.key is None else self._taken[caller.tenant])
