"""When to try again: a pure decision, or None.

Backoff is exponential, capped, with full jitter: the wait is uniform between 0 and
`min(cap, base * 2^(attempt-1))`, which spreads a herd of failed calls best (Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015). A provider's `Retry-After` is a floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from forebay.errors import JobError


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Try again `delay_s` seconds from now."""

    delay_s: float


class Backoff(Protocol):
    """Decides whether there is a next attempt, and when."""

    def decide(
        self, attempts: int, max_attempts: int, error: JobError, chance: float
    ) -> RetryDecision | None:
        """The next attempt, or None when there is none; see `RetryPolicy.decide`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts, in seconds.

    Attributes:
        base_s: upper bound of the first wait.
        cap_s: upper bound of any wait of our own choosing.
        max_retry_after_s: a longer wish of the provider is cut to this.
    """

    base_s: float = 1.0
    cap_s: float = 60.0
    max_retry_after_s: float = 86_400.0

    def decide(
        self, attempts: int, max_attempts: int, error: JobError, chance: float
    ) -> RetryDecision | None:
        """The next attempt, or None when there is none.

        Args:
            attempts: attempts made so far, at least 1.
            max_attempts: attempts allowed in all.
            error: how the last attempt ended.
            chance: uniform in [0, 1), the jitter.
        """
        if not error.retryable or attempts >= max_attempts:
            return None
        return RetryDecision(self.pause_s(attempts, error.retry_after_s, chance))

    def pause_s(self, attempts: int, retry_after_s: float | None, chance: float) -> float:
        """How long to wait before the next attempt; arguments as in `decide`."""
        # 2^30 s is past any cap; the bound keeps the power itself small.
        backoff = chance * min(self.cap_s, self.base_s * 2.0 ** min(attempts - 1, 30))
        if retry_after_s is None:
            return backoff
        # Jitter is added on top, so that all who were told "2 seconds" do not return together.
        wish = min(max(retry_after_s, 0.0), self.max_retry_after_s)
        return wish + chance * min(self.base_s, self.cap_s)


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Fixed waits, one before each further attempt, for who was promised them.

    Attributes:
        waits_s: the first is between the first attempt and the second, in seconds.
        spread: how much of a wait is added at most by chance, so that a herd does not return
            together.
        max_retry_after_s: a longer wish of the receiver is cut to this.
    """

    waits_s: tuple[float, ...]
    spread: float = 0.1
    max_retry_after_s: float = 86_400.0

    def decide(
        self, attempts: int, max_attempts: int, error: JobError, chance: float
    ) -> RetryDecision | None:
        """The next attempt, or None; see `RetryPolicy.decide`."""
        if attempts >= max_attempts or not error.retryable:
            return None
        wait_s = self.waits_s[min(attempts, len(self.waits_s)) - 1]
        wish_s = min(max(error.retry_after_s or 0.0, 0.0), self.max_retry_after_s)
        return RetryDecision(max(wait_s, wish_s) * (1 + self.spread * chance))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a `Retry-After` header (RFC 9110, 10.2.3); None when unreadable.

    Args:
        value: delay seconds or an HTTP date.
        now: aware; a date in the past means 0.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # More digits than this is not a wait anybody means; it would overflow a float's sense too.
        return float(text) if len(text) <= 12 else None
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)
