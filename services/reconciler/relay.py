"""The relay publishes what should be in the broker and is not.

Two sorts: jobs whose `not_before` has come (backoff, schedule), and queued jobs for which no
confirmed message is known, because the broker was away, refused it, or the process that accepted
the job died before it could publish. Publishing twice is harmless: the claim absorbs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.jobs import JobKind, Lane
from forebay.store import JobRef, JobStore, Route
from reconciler.loop import loop_time
from reconciler.outbox import Outbox, Sent

_ROUTES: frozenset[Route] = frozenset((kind, lane) for kind in JobKind for lane in Lane)
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class _Rest:
    """A route's pause in seconds, and its end on the relay's clock."""

    pause_s: float
    until: float
    silent: bool
    """It did not refuse, it said nothing."""


class Relay:
    """Publishes from the store.

    A route whose queue refuses (full, or not bound) rests for a growing pause, so that it neither
    holds up the others nor is flooded. So does one that says nothing within the publish timeout (a
    quorum queue without a majority). After its rest it is tried with one job, apart from the
    others: its batches would hold a turn for 5 s each, and what was not answered may be there.

    Args:
        publish_after_s: how long whoever queued a job has to publish it himself.
        batch: jobs taken at once.
        clock: for the rests, in seconds.
    """

    def __init__(
        self,
        store: JobStore,
        outbox: Outbox,
        *,
        publish_after_s: float,
        batch: int,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._publish_after_s = publish_after_s
        self._batch = batch
        self._clock = clock
        self._resting: dict[Route, _Rest] = {}

    async def turn(self) -> bool:
        """Publish one batch of each sort; True when a full batch went out and more may wait."""
        due = await self._store.queue_due(self._batch)
        if due:
            crashpoint(CrashPoint.RELAY_AFTER_DUE)
        # What is due of a route that rests is queued by now, and waits with its other jobs.
        without = self._passed_over()
        more_due = await self._publish("due", [r for r in due if (r.kind, r.lane) not in without])
        left = await self._store.unpublished(
            self._publish_after_s, self._batch, self._passed_over()
        )
        more_left = await self._publish("unpublished", left)
        await self._publish("unpublished", await self._tries())
        return more_due or more_left

    def _passed_over(self) -> frozenset[Route]:
        """Routes that rest, and those that were silent until one job says otherwise."""
        now = self._clock()
        return frozenset(
            route for route, rest in self._resting.items() if rest.silent or rest.until > now
        )

    async def _tries(self) -> Sequence[JobRef]:
        """The oldest job of each silent route whose rest is over."""
        now = self._clock()
        tries: list[JobRef] = []
        for route, rest in self._resting.items():
            if rest.silent and rest.until <= now:
                others = _ROUTES - {route}
                tries += await self._store.unpublished(self._publish_after_s, 1, others)
        return tries

    async def _publish(self, reason: str, refs: Sequence[JobRef]) -> bool:
        sent = await self._outbox.publish(reason, refs)
        for route in {(ref.kind, ref.lane) for ref in refs}:
            self._note(route, sent)
        return sent.confirmed > 0 and len(refs) == self._batch

    def _note(self, route: Route, sent: Sent) -> None:
        rest = self._resting.pop(route, None)
        silent = route in sent.silent
        if silent or route in sent.refused:
            pause_s = min(rest.pause_s * 2, _LONGEST_REST_S) if rest else _FIRST_REST_S
            self._resting[route] = _Rest(pause_s, self._clock() + pause_s, silent)
