"""The rescuer takes back jobs whose worker is gone, and ends jobs whose time limit passed.

A job is rescued because its lease ran out, never because of its age: a call ten leases long whose
worker still renews is left alone.

A job whose last attempt was lost is failed here, and nobody holds its message any more. The rescuer
puts one into the dead queue in its place, so that an operator finds it there beside those that a
worker failed. Limit: that is tried once. The store says which jobs are dead letters; a letter that
the broker does not take, or that a rescuer does not live to send, is missing from the queue.
"""

from __future__ import annotations

from collections import Counter

from forebay.broker import DeadLetter, DeadLetters, DeadReason
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.store import JobStore, Rescue
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics
from reconciler.outbox import message_for

_LOST_LAST = "no allowed attempt succeeded, and the last one was lost with its worker"


class Rescuer:
    """Rescues and expires, at most `batch` jobs a turn."""

    def __init__(
        self,
        store: JobStore,
        dead_letters: DeadLetters,
        metrics: Metrics,
        logger: Logger,
        *,
        batch: int,
    ) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._logger = logger
        self._batch = batch

    async def turn(self) -> bool:
        """One batch of each; True when more may wait."""
        crashpoint(CrashPoint.RESCUER_BEFORE)
        rescued = await self._store.rescue(self._batch)
        by_state = Counter(rescue.state for rescue in rescued)
        for state, count in by_state.items():
            self._metrics.rescued.labels(state).inc(count)
        if rescued:
            crashpoint(CrashPoint.RESCUER_AFTER_RESCUE)
            self._logger.warning(LogEvent.RESCUED, **{str(s): n for s, n in by_state.items()})
        try:
            expired = await self._expire()
        finally:
            # Last, because the broker may take its time to answer, and nothing depends on it; but
            # nobody else knows of these letters, so also when the store went away meanwhile.
            await self._dead_letters.bury([_letter(one) for one in rescued if one.dead_lettered])
        return self._batch in {len(rescued), expired}

    async def _expire(self) -> int:
        expired = await self._store.expire(self._batch)
        if expired:
            crashpoint(CrashPoint.RESCUER_AFTER_EXPIRE)
            self._logger.info(LogEvent.EXPIRED, jobs=expired)
        return expired


def _letter(rescue: Rescue) -> DeadLetter:
    return DeadLetter(message_for(rescue.ref), DeadReason.ATTEMPTS_EXHAUSTED, _LOST_LAST)
