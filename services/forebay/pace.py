"""How quickly each queue is worked off, and how much more it can take. No I/O, like `forebay.jobs`.

Theory of operation. By Little's law who comes last waits as long as it takes to work off what is
before them: the jobs that wait, divided by the jobs that end in a second. How many end says how
many *can* end only while there was always something to do. So a look counts only if more waited at
its beginning than ended until the next one: an idle night says nothing of what the workers bear.
Jobs that wait for their next attempt are nothing to do yet: workers stand idle beside them.

When nothing ends, that is no rate of nothing: the workers may be away, or each call may take
longer than we looked. Then the rate that was seen last holds until it is forgotten, and after that
the age of what waits is looked at instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from forebay.jobs import JobKind, Lane

REMEMBER_S = 60.0
"""How far back is looked: long enough for slow calls, short enough for workers that are added."""

Route = tuple[JobKind, Lane]
"""What a queue is for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a queue now."""

    ready: int = 0
    """Jobs that wait for a worker."""
    later: int = 0
    """Jobs that wait for their next attempt."""
    oldest_s: float = 0.0
    """How long the first of those has waited that could run now, in seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a queue is getting on."""

    kind: JobKind
    lane: Lane
    waiting: int
    oldest_s: float
    per_s: float | None
    """Jobs that end in a second while there is always one to do; None: nobody knows."""

    @property
    def route(self) -> Route:
        """Of which queue it is said."""
        return self.kind, self.lane

    def free(self, within_s: float) -> float:
        """How many more would have their end within so many seconds; below 0: too many are there.

        Without a rate it is all or nothing, by the age of the oldest.
        """
        if self.per_s is not None:
            return self.per_s * within_s - self.waiting
        return inf if self.oldest_s <= within_s else -inf


@dataclass(frozen=True, slots=True)
class _Look:
    """What was there at a time."""

    at: float
    waiting: Mapping[Route, Waiting]
    ended: Mapping[Route, int]


class Pacer:
    """Makes paces of looks: how many wait, and how many ended since ever."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def look(
        self, at: float, waiting: Mapping[Route, Waiting], ended: Mapping[Route, int]
    ) -> Sequence[Pace]:
        """The pace of every queue; none at the first look, which has nothing to compare with.

        Args:
            at: a clock that only grows, in seconds.
            waiting: by queue; one in which nothing waits may be left out.
            ended: by queue, counted from any beginning.
        """
        self._looks.append(_Look(at, waiting, ended))
        while self._looks[0].at < at - REMEMBER_S:
            self._looks.popleft()
        if len(self._looks) == 1:
            return []
        queues = {queue for look in self._looks for queue in (*look.waiting, *look.ended)}
        nothing = Waiting()
        return [
            Pace(
                *queue,
                waiting=(there := waiting.get(queue, nothing)).ready + there.later,
                oldest_s=there.oldest_s,
                per_s=self._per_s(queue),
            )
            for queue in sorted(queues)
        ]

    def _per_s(self, queue: Route) -> float | None:
        """Over the looks between which there was always something to do.

        Those at the end in which nothing ended are left out.
        """
        ended, seconds, idle_s = 0, 0.0, 0.0
        for before, after in pairwise(self._looks):
            count = after.ended.get(queue, 0) - before.ended.get(queue, 0)
            there = before.waiting.get(queue)
            if there is None or not 0 <= count < there.ready:
                continue  # there was not always something to do, or the count began anew
            idle_s += after.at - before.at
            if count:
                ended, seconds, idle_s = ended + count, seconds + idle_s, 0.0
        return ended / seconds if ended else None
