"""Where API keys live, and what is left of their quotas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from forebay.keys import ApiKey, Grant, Window, share

MOST_LISTED = 1_000
"""Keys in a list: the newest. Revoked and expired ones are kept for 90 days."""


class KeyStore(Protocol):
    """The store of keys. Raises `StoreUnavailable` as `JobStore` does."""

    async def add(self, key: ApiKey) -> None:
        """Store a new key, durably; safe to repeat."""

    async def find(self, key_id: str) -> ApiKey | None:
        """The key, whatever its tenant: who asks is known only by it."""

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's keys, the newest first, at most `MOST_LISTED`; revoked ones too."""

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        """Let a key work no longer, from the store's now; safe to repeat.

        The key after it; None when the tenant has none with this id. A replica may know it as live
        for as long as it remembers keys.
        """

    async def reserve(self, window: Window, asked: int) -> Grant:
        """Take requests out of a window's quota, at most `asked`, as `share` divides them.

        All that is ever granted of a window is at most its quota. What an unknown answer took is
        lost, and so is what a replica took and did not use.
        """


class MemoryKeyStore:
    """`KeyStore` without a database."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._taken: dict[tuple[str, int, int], int] = {}

    async def add(self, key: ApiKey) -> None:
        """See `KeyStore.add`."""
        self._keys.setdefault(key.id, key)

    async def find(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        return self._keys.get(key_id)

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """See `KeyStore.list`."""
        own = [key for key in self._keys.values() if key.tenant == tenant]
        return sorted(own, key=lambda key: key.id, reverse=True)[:MOST_LISTED]

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        """See `KeyStore.revoke`."""
        key = self._keys.get(key_id)
        if key is None or key.tenant != tenant:
            return None
        self._keys[key_id] = key.evolve(revoked_at=key.revoked_at or self._clock())
        return self._keys[key_id]

    async def reserve(self, window: Window, asked: int) -> Grant:
        """See `KeyStore.reserve`."""
        name = (window.key_id, window.length_s, window.number)
        taken = self._taken.get(name, 0)
        granted = share(max(window.most - taken, 0), asked)
        self._taken[name] = taken + granted
        return Grant(granted, max(window.most - taken - granted, 0))
