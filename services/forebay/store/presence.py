"""Whether the store is there: told once when it goes, and once when it comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger


class Presence:
    """Hears how every call ended, and logs the changes only.

    Many calls are under way at a change and end after it, in any order. One that began before the
    last change says nothing about the time after it.
    """

    def __init__(
        self, hosts: str, logger: Logger | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hosts = hosts
        self._logger = logger
        self._clock = clock
        self._is_lost = False
        self._changed_at = clock()

    def lost(self, began: float, reason: str) -> None:
        """A call that began then, by the clock, did not reach the store."""
        if not self._is_lost and began >= self._changed_at:
            self._change(is_lost=True)
            if self._logger is not None:
                self._logger.warning(LogEvent.STORE_LOST, hosts=self._hosts, reason=reason)

    def found(self, began: float) -> None:
        """A call that began then, by the clock, was answered."""
        if self._is_lost and began >= self._changed_at:
            away_s = round(self._clock() - self._changed_at, 3)
            self._change(is_lost=False)
            if self._logger is not None:
                self._logger.info(LogEvent.STORE_FOUND, hosts=self._hosts, away_s=away_s)

    def _change(self, *, is_lost: bool) -> None:
        self._is_lost = is_lost
        self._changed_at = self._clock()
