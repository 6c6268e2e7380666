"""Whether a consumer is deaf: the broker has messages for it and delivers none. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class WatchTiming:
    """Intervals of the watchdog and of reconnecting, in seconds."""

    look_every_s: float = 15.0
    deaf_after_s: float = 60.0
    rebuilds: int = 2
    """Rebuilds without a delivery after which the process should better be restarted."""
    backoff_base_s: float = 0.2
    backoff_cap_s: float = 10.0
    dead_letter_pause_s: float = 1.0
    """How long a message is held whose dead letter was not confirmed, before it is given back."""


class Verdict(StrEnum):
    """What to do with a consumer."""

    FINE = "fine"
    REBUILD = "rebuild"
    GIVE_UP = "give up"
    """Rebuilt in vain: a fresh process may do better."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a queue found."""

    waiting: int
    """Messages ready in the queue."""
    free: int
    """Free slots of the prefetch."""
    received: int
    """Deliveries so far, over all rebuilds."""
    at: float
    """When, by a monotonic clock, in seconds."""


class Watchdog:
    """Judges the looks at one lane, one after the other."""

    def __init__(self, timing: WatchTiming) -> None:
        self._timing = timing
        self._received = 0
        self._since: float | None = None
        """Since when every look found messages, free slots and no delivery."""
        self._rebuilt = 0

    def judge(self, look: Look) -> Verdict:
        """What this look means after those before it."""
        if look.received != self._received:
            self._received = look.received
            self._rebuilt = 0
            self._since = None
        if look.waiting == 0 or look.free <= 0:
            self._since = None
            return Verdict.FINE
        if self._since is None:
            self._since = look.at
        if look.at - self._since < self._timing.deaf_after_s:
            return Verdict.FINE
        self._since = None
        if self._rebuilt >= self._timing.rebuilds:
            return Verdict.GIVE_UP
        self._rebuilt += 1
        return Verdict.REBUILD
