"""The store in memory, watched: every change of every job is judged as it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from forebay.audit.paths import Snapshot, birth_breaches, standing_breaches, step_breaches
from forebay.jobs import Job
from forebay.store.memory import MemoryJobStore

Told = Callable[[Job | None, Job, list[str]], None]


class _Watched(dict[str, Job]):
    """The jobs by id; tells of each write."""

    def __init__(self, told: Callable[[Job | None, Job], None]) -> None:
        super().__init__()
        self._told = told

    def __setitem__(self, job_id: str, job: Job) -> None:
        before = self.get(job_id)
        super().__setitem__(job_id, job)
        self._told(before, job)


class WatchedStore(MemoryJobStore):
    """Tells of every change, with what is wrong about it."""

    def __init__(self, clock: Callable[[], datetime], told: Told) -> None:
        super().__init__(clock)
        self._told = told
        self._jobs: Any = _Watched(self._changed)

    def look(self, job_id: str) -> Job | None:
        """A job as it is, for the judges: over no wire."""
        return self._jobs.get(job_id)

    def ended(self, job_id: str, token: str) -> bool:
        """Whether the last attempt that was ended is the one under this token."""
        return self._last_tokens.get(job_id) == token

    def all(self) -> list[Job]:
        """Every job there is."""
        return [*self._jobs.values()]

    def _changed(self, before: Job | None, after: Job) -> None:
        now = Snapshot.of(after)
        found = [*standing_breaches(now)]
        if before is None:
            found += birth_breaches(now)
        else:
            found += step_breaches(Snapshot.of(before), now)
            found += _start_breaches(before, after)
        self._told(before, after, found)


def _start_breaches(before: Job, after: Job) -> Iterator[str]:
    """What is wrong with the moment in which an attempt began, by the store's clock."""
    at = after.started_at
    if at is None or at == before.started_at or after.generation != before.generation:
        return
    if before.not_before is not None and at < before.not_before:
        yield "it began before its time"
    if after.deadline is not None and at >= after.deadline:
        yield "it began after its deadline"
    if after.start_by is not None and after.attempts == 1 and at >= after.start_by:
        yield "it began after its start_by"
