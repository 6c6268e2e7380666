"""The keys that this process knows.

Theory of operation. A key is read from the store when it first comes, and again in the background
when it was used and a third of its time is over, so that hardly any request waits for it. Beyond
its time it is not believed: a revoked key works at most so long on any replica, whether the store
answers or not. While the store is away, a key that was read lately works on for what is left of it.

Guesses: an id that is not in the store is remembered too, apart from the real ones, which no flood
of guesses can push out. Ids never seen before are read a few at a time, and who does not get a turn
is told to come back; keys that are known do not stand in that line.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from forebay.keys import ApiKey
from forebay.store.keys import KeyStore
from ingress.single_flight import SingleFlight

READ_WITHIN_S = 1.0
AGAIN_S = 1.0
"""After a read that failed."""
MOST_KNOWN = 10_000
"""Keys, and as many ids that are none: some 10 MB at most."""
UNKNOWN_S = 10.0
"""How long an id that is in nobody's hands is taken for that."""
READERS = 4
"""Ids never seen before that are read at a time: a flood of them takes 4 connections of 50."""


@dataclass(slots=True)
class _Known:
    key: ApiKey
    read_at: float
    again_at: float


class KeyRing:
    """Finds keys by their id."""

    def __init__(
        self,
        store: KeyStore,
        max_age_s: float,
        *,
        most: int = MOST_KNOWN,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._max_age_s = max_age_s
        self._most = most
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._reading: SingleFlight[ApiKey | None] = SingleFlight(READ_WITHIN_S)
        self._readers = asyncio.Semaphore(READERS)

    async def find(self, key_id: str) -> ApiKey | None:
        """The key, as it was at most `max_age_s` ago; raises `StoreUnavailable`."""
        now = self._clock()
        known = self._known.get(key_id)
        if known is None:
            return await self._first(key_id, now)
        if now - known.read_at >= self._max_age_s:
            return await self._reading.answer(key_id, lambda: self._read(key_id))
        if now >= known.again_at:
            known.again_at = now + AGAIN_S
            self._reading.begin(key_id, lambda: self._read(key_id))
        return known.key

    def learn(self, key: ApiKey) -> None:
        """Know a key as it was changed here just now; a read that began before is too late."""
        self._remember(key, self._clock())

    async def _first(self, key_id: str, now: float) -> ApiKey | None:
        asked_at = self._unknown.get(key_id)
        if asked_at is not None and now - asked_at < UNKNOWN_S:
            return None
        return await self._reading.answer(key_id, lambda: self._read_in_turn(key_id))

    async def _read_in_turn(self, key_id: str) -> ApiKey | None:
        async with self._readers:
            return await self._read(key_id)

    async def _read(self, key_id: str) -> ApiKey | None:
        # The time before the read: what is revoked while it is on its way is known too long else.
        now = self._clock()
        key = await self._store.find(key_id)
        known = self._known.get(key_id)
        if known is not None and known.read_at >= now:
            return known.key
        if key is None:
            self._known.pop(key_id, None)
            self._unknown[key_id] = now
            self._unknown.move_to_end(key_id)
            self._bound(self._unknown)
        else:
            self._remember(key, now)
        return key

    def _remember(self, key: ApiKey, read_at: float) -> None:
        self._known[key.id] = _Known(key, read_at, read_at + self._max_age_s / 3)
        self._known.move_to_end(key.id)
        self._bound(self._known)

    def _bound(self, known: OrderedDict[str, _Known] | OrderedDict[str, float]) -> None:
        if len(known) > self._most:
            known.popitem(last=False)
