"""The refiller publishes again what the broker had confirmed and lost.

A queue was wiped, deleted with its messages, or dropped a message after too many deliveries. The
sign: the store says that jobs wait in a queue for a while, and the queue is empty. A queue that has
something is left alone, however long it is, so a healthy backlog is not published twice. What a
worker holds without having begun is not in the queue either; publishing it again costs one message
that the claim absorbs.
"""

from __future__ import annotations

from forebay.broker import Queues
from forebay.jobs import JobKind, Lane
from forebay.store import JobStore, Route
from reconciler.outbox import Outbox

_ROUTES: tuple[Route, ...] = tuple((kind, lane) for kind in JobKind for lane in Lane)


class Refiller:
    """Refills empty queues.

    Args:
        lost_after_s: how long a confirmed message may wait in an empty queue before it is lost.
        batch: jobs taken at once of each route.
    """

    def __init__(
        self, store: JobStore, queues: Queues, outbox: Outbox, *, lost_after_s: float, batch: int
    ) -> None:
        self._store = store
        self._queues = queues
        self._outbox = outbox
        self._lost_after_s = lost_after_s
        self._batch = batch

    async def turn(self) -> bool:
        """Look at every route once; True when one was refilled with a full batch."""
        more = False
        for route in _ROUTES:
            if await self._queues.waiting(*route) == 0:
                lost = await self._store.unclaimed(route, self._lost_after_s, self._batch)
                sent = await self._outbox.publish("lost", lost)
                more = more or sent.confirmed == self._batch
        return more
