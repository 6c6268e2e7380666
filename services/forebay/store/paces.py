"""Where it is kept how quickly the queues are worked off.

Workers add what they ended, the census makes paces of it, every ingress reads them: three figures
for each queue, whatever the number of processes. None of it is a promise: a count that is lost or
added twice moves a rate a little, for a minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.pace import Pace, Route


@dataclass(frozen=True, slots=True)
class Census:
    """What the census said last."""

    turn: int
    """Another one each time, so that who reads it knows that it is new without comparing clocks."""
    paces: Sequence[Pace]


class PaceStore(Protocol):
    """The paces of all queues. Raises `StoreUnavailable` as `JobStore` does."""

    async def add_ended(self, ended: Mapping[Route, int]) -> None:
        """So many more jobs ended. Not to be repeated blindly: that counts them twice."""

    async def ended(self) -> Mapping[Route, int]:
        """How many jobs ended since ever."""

    async def tell(self, paces: Sequence[Pace]) -> None:
        """These are the paces now; what was told before is forgotten."""

    async def told(self) -> Census | None:
        """What was told last; None when nothing was."""


class MemoryPaceStore:
    """`PaceStore` without a database."""

    def __init__(self) -> None:
        self._ended: Counter[Route] = Counter()
        self._told: Census | None = None

    async def add_ended(self, ended: Mapping[Route, int]) -> None:
        """See `PaceStore.add_ended`."""
        self._ended.update(ended)

    async def ended(self) -> Mapping[Route, int]:
        """See `PaceStore.ended`."""
        return dict(self._ended)

    async def tell(self, paces: Sequence[Pace]) -> None:
        """See `PaceStore.tell`."""
        self._told = Census(1 if self._told is None else self._told.turn + 1, [*paces])

    async def told(self) -> Census | None:
        """See `PaceStore.told`."""
        return self._told
