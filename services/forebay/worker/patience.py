"""How long a worker waits for its own store: for ever, since what it holds must not be lost."""

from __future__ import annotations

import stamina

from forebay.errors import StoreUnavailable


def patient(wait_max_s: float = 5.0) -> stamina.BoundAsyncRetryingCaller:
    """A caller that repeats a store operation until the store answers; a cancellation ends it.

    Every write of the store is safe to repeat, so an unknown answer is simply asked again.
    """
    caller = stamina.AsyncRetryingCaller(
        attempts=None, timeout=None, wait_initial=0.1, wait_max=wait_max_s
    )
    return caller.on(StoreUnavailable)
