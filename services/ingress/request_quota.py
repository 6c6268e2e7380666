"""Requests of a key in a window of time, counted for all replicas together.

Theory of operation. What is left of a window is one number in the store. A replica takes some of it
in one atomic update and lets so many requests in without asking again: one at first, twice as many
each time, at most an eighth of what is left. So a window of 600 requests costs some fifty updates
and none of the quota is held by a replica that does not use about as much; what is granted is never
more than the quota, because what is lost (a crash, an unknown answer) is lost for the window.

Limits. Windows are fixed: at the turn of two of them a key may use both quotas in a short time. The
number of the window is by the replica's clock: one that is wrong by seconds takes that much
earlier or later from the next window, and never more than its quota. `r` in the answer is what was
left when this replica last asked: others may have taken of it since.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from forebay.keys import ApiKey, Grant, Window
from forebay.store.keys import KeyStore
from ingress.single_flight import SingleFlight

ASK_WITHIN_S = 1.0
MOST_BOOKS = 10_000
"""Keys whose windows are remembered; one that is forgotten loses what it holds of its window."""


@dataclass(slots=True)
class _Book:
    """What this process knows of one window."""

    window: Window
    mine: int = 0
    """Requests that it may let in without asking."""
    left: int = 0
    """Requests left for all replicas when it last asked."""
    asked: int = 0
    """How many it asked for last."""
    waiting: int = 0
    """Requests that wait for an answer."""
    over: bool = False
    """Nothing is left in this window."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Whether a request is within its quota, and what its answer says of the quota."""

    granted: bool
    reset_s: int
    """Seconds until the next window."""
    headers: Mapping[str, str]


class RequestQuota:
    """Counts requests by key. Raises `StoreUnavailable` when it must ask and gets no answer."""

    def __init__(self, store: KeyStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._books: OrderedDict[str, _Book] = OrderedDict()
        self._asking: SingleFlight[None] = SingleFlight(ASK_WITHIN_S)

    async def take(self, key: ApiKey) -> Allowance | None:
        """Count one request; None for a key without such a quota."""
        now = self._clock()
        window = Window.at(key, now)
        if window is None:
            return None
        book = self._book_of(window)
        while book.mine == 0 and not book.over:
            book.waiting += 1
            try:
                name = f"{window.key_id}/{window.number}/{window.most}"
                await self._asking.answer(name, lambda: self._ask(book))
            finally:
                book.waiting -= 1
        granted = book.mine > 0
        book.mine -= granted
        reset_s = max(math.ceil((window.ends_at - now).total_seconds()), 1)
        return Allowance(granted, reset_s, _headers(book, reset_s))

    def _book_of(self, window: Window) -> _Book:
        book = self._books.get(window.key_id)
        if book is None or book.window != window:
            book = self._books[window.key_id] = _Book(window)
            self._books.move_to_end(window.key_id)
            if len(self._books) > MOST_BOOKS:
                self._books.popitem(last=False)
        return book

    async def _ask(self, book: _Book) -> None:
        asked = min(max(book.asked * 2, book.waiting, 1), book.window.most)
        grant: Grant = await self._store.reserve(book.window, asked)
        book.asked = asked
        book.mine += grant.granted
        book.left = grant.left
        book.over = grant.granted == 0


def _headers(book: _Book, reset_s: int) -> Mapping[str, str]:
    """Structured fields, as draft-ietf-httpapi-ratelimit-headers has them."""
    window = book.window
    return {
        "RateLimit-Policy": f'"key";q={window.most};w={window.length_s}',
        "RateLimit": f'"key";r={book.mine + book.left};t={reset_s}',
    }
