"""How long a call is tried again, and how long it pauses before each try."""

from __future__ import annotations

import asyncio
import random

from forebay.client.errors import ClientError
from forebay.retry import RetryPolicy

PAUSES = RetryPolicy(base_s=0.2, cap_s=5.0)
"""A restart of an ingress takes seconds; the cap is what its other callers bear from us then."""


class Patience:
    """Of one call, or of one stream that may break many times.

    Args:
        patience_s: how long to try again, from the first failure on; 0 does not try again.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.renew()

    @property
    def tried(self) -> int:
        """How often it failed."""
        return self._failures

    def renew(self) -> None:
        """It succeeded: the next failure is the first one again."""
        self._failures = 0
        self._since = 0.0

    async def pause(self, trouble: ClientError) -> None:
        """Wait before the next try; raises `trouble` if it does not pass, or not in time."""
        now = asyncio.get_running_loop().time()
        if self._failures == 0:
            self._since = now
        self._failures += 1
        wish = trouble.retry_after_s
        pause_s = PAUSES.pause_s(self._failures, wish, random.random())  # noqa: S311 -- jitter
        if not trouble.passing or now - self._since + pause_s >= self._patience_s:
            raise trouble
        await asyncio.sleep(pause_s)
