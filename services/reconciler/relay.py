"""The relay publishes what should be in the broker and is not.

Two sorts: jobs whose `not_before` has come (backoff, schedule), and queued jobs for which no
confirmed message is known, because the broker was away, refused it, or the process that accepted
the job died before it could publish. Publishing twice is harmless: the claim absorbs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.store import JobRef, JobStore, Route
from reconciler.outbox import Outbox

_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """A route's pause in seconds, and its end on the relay's clock."""

    pause_s: float
    until: float


class Relay:
    """Publishes from the store.

    A route whose queue refuses (full, or not bound) rests for a growing pause, so that it neither
    holds up the others nor is flooded.

    Args:
        publish_after_s: how long whoever queued a job has to publish it himself.
        batch: jobs taken at once.
        clock: for the rests, in seconds; the event loop's when left out.
    """

    def __init__(
        self,
        store: JobStore,
        outbox: Outbox,
        *,
        publish_after_s: float,
        batch: int,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._publish_after_s = publish_after_s
        self._batch = batch
        self._clock = clock or _loop_time
        self._resting: dict[Route, _Rest] = {}

    async def turn(self) -> bool:
        """Publish one batch of each sort; True when a full batch went out and more may wait."""
        due = await self._store.queue_due(self._batch)
        if due:
            crashpoint(CrashPoint.RELAY_AFTER_DUE)
        more_due = await self._publish("due", due)
        resting = [route for route, rest in self._resting.items() if rest.until > self._clock()]
        left = await self._store.unpublished(self._publish_after_s, self._batch, resting)
        more_left = await self._publish("unpublished", left)
        return more_due or more_left

    async def _publish(self, reason: str, refs: Sequence[JobRef]) -> bool:
        sent = await self._outbox.publish(reason, refs)
        for route in {(ref.kind, ref.lane) for ref in refs}:
            self._note(route, refused=route in sent.refused)
        return sent.confirmed > 0 and len(refs) == self._batch

    def _note(self, route: Route, *, refused: bool) -> None:
        rest = self._resting.pop(route, None)
        if refused:
            pause_s = min(rest.pause_s * 2, _LONGEST_REST_S) if rest else _FIRST_REST_S
            self._resting[route] = _Rest(pause_s, self._clock() + pause_s)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
