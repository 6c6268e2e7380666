"""What can happen to one operation between a process and a server, and how often in one history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Fate(StrEnum):
    """What becomes of one operation."""

    FINE = "fine"
    SLOW = "slow"
    """Takes long, perhaps longer than its caller waits: then it takes effect all the same."""
    LOST = "lost"
    """Never arrives; its caller hears of a failure."""
    UNANSWERED = "unanswered"
    """Takes effect, and its answer is lost."""
    LATE = "late"
    """Its caller hears of a failure, and it takes effect after that."""
    PARTIAL = "partial"
    """Of several documents or messages only some are touched, and the answer is lost."""
    DIES_BEFORE = "dies before"
    """The process is killed before it could send it."""
    DIES_AFTER = "dies after"
    """The process is killed when it is on its way: it takes effect, the answer finds nobody."""


_RATES = (0.0, 0.0, 0.01, 0.03, 0.1)
_DEATHS = (0.0, 0.0, 0.001, 0.004)


@dataclass(frozen=True)
class Weather:
    """How likely each fate is in one history."""

    rates: tuple[tuple[Fate, float], ...]

    @classmethod
    def drawn(cls, chance: Random) -> Weather:
        """Some histories are mild, some are wild, and each in its own way."""
        rates = []
        for fate in Fate:
            if fate is not Fate.FINE:
                deadly = fate in {Fate.DIES_BEFORE, Fate.DIES_AFTER}
                rates.append((fate, chance.choice(_DEATHS if deadly else _RATES)))
        return cls(tuple(rates))


class Fates:
    """Draws the fate of each operation; after `calm` all are fine."""

    def __init__(self, chance: Random, *, faults: bool = True) -> None:
        self.calm = False
        self.injected: Counter[str] = Counter()
        self._chance = chance
        self._weather = Weather.drawn(chance) if faults else Weather(())

    def draw(self, place: str) -> Fate:
        """The fate of one operation at a place: `store` or `broker`."""
        if self.calm:
            return Fate.FINE
        point = self._chance.random()
        for fate, rate in self._weather.rates:
            if point < rate:
                self.injected[f"{place}: {fate}"] += 1
                return fate
            point -= rate
        return Fate.FINE

    def travel_s(self, fate: Fate) -> float:
        """How long one way takes, in seconds."""
        if fate is Fate.SLOW:
            return self._chance.uniform(0.1, 4.0)
        return self._chance.uniform(0.0005, 0.004)

    def fails_s(self, gives_up_s: float) -> float:
        """When its caller hears that an operation failed: a reset comes soon, silence lasts."""
        return gives_up_s * self._chance.choice([0.01, 0.1, 1.0])

    def late_s(self) -> float:
        """How long after its failure a late operation takes effect, in seconds."""
        return self._chance.uniform(0.0, 8.0)

    def some(self, count: int) -> list[int]:
        """Which of several are touched; at least one is not, if there are two."""
        touched = self._chance.randrange(count) if count else 0
        return sorted(self._chance.sample(range(count), touched))
