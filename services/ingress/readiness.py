"""Whether the ingress can accept now: the store's answer, remembered briefly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from forebay.errors import StoreUnavailable
from forebay.store import JobStore

REMEMBER_S = 1.0
"""Probes of many kinds may ask at once; the store is asked at most once a second."""


class Readiness:
    """Asks the store whether it can take a write, at most once in `REMEMBER_S` seconds."""

    def __init__(self, store: JobStore, *, clock: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._ready = False
        self._leaving = False

    @property
    def leaving(self) -> bool:
        """Whether the process was asked to stop, and so is unready whatever the store says."""
        return self._leaving

    def leave(self) -> None:
        """Tell load balancers from now on to send callers elsewhere."""
        self._leaving = True

    async def ready(self) -> bool:
        """Whether an accept could succeed now."""
        async with self._lock:
            if self._clock() - self._asked_at >= REMEMBER_S:
                self._ready = await self._ask()
                self._asked_at = self._clock()
            return self._ready

    async def _ask(self) -> bool:
        try:
            await self._store.ping()
        except StoreUnavailable:
            return False
        return True
