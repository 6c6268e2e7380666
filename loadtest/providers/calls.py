"""The call log: what reached the simulators, by job and attempt, within bounded memory.

Counters are exact for ever; single calls are kept for the latest `keep` only, and the per-job
figures count kept calls. The JSON-lines file, when there is one, has every finished call.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from loadtest.providers.behaviour import Kind

KEEP = 50_000  # about 40 MB of calls; a 10 000-job burst with every retry fits
_ID_LIMIT = 200
_PATH_LIMIT = 500


@dataclass(slots=True)
class Call:
    """One call as it happened; times are milliseconds, on the wall and on the monotonic clock."""

    n: int
    job_id: str | None
    attempt: int | None
    kind: Kind
    provider: str
    path: str
    in_flight: int
    started_ms: float
    started_monotonic_ms: float
    ended_ms: float | None = None
    ended_monotonic_ms: float | None = None
    status: int | None = None
    fault: str | None = None
    client_gone: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the call as the JSON the log answers with."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Tally:
    """The running figures of one kind."""

    calls: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    max_calls_per_job: int = 0
    max_attempt: int = 0
    client_gone: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "by_status": dict(self.by_status),
            "jobs": len(self.jobs),
            "max_calls_per_job": self.max_calls_per_job,
            "max_attempt": self.max_attempt,
            "client_gone": self.client_gone,
        }


class CallLog:
    """Counts and keeps calls; `path` appends each finished one as a JSON line."""

    def __init__(self, path: Path | None = None, keep: int = KEEP) -> None:
        self._keep = keep
        # Line buffered: whoever reads the file while we run, or after a kill, misses nothing.
        self._file: TextIO | None = path.open("a", buffering=1) if path else None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._n = 0
        self._calls: deque[Call] = deque()
        self._by_job: defaultdict[str, deque[Call]] = defaultdict(deque)
        self._tallies = {kind: _Tally() for kind in Kind}
        self._first_counted = 1

    def begin(self, kind: Kind, provider: str, path: str, request_id: str | None) -> Call:
        """Record that a call arrived; `request_id` is `<job id>.<attempt>`."""
        job_id, attempt = split_request_id(request_id)
        tally = self._tallies[kind]
        self._n += 1
        tally.calls += 1
        tally.in_flight += 1
        tally.max_in_flight = max(tally.max_in_flight, tally.in_flight)
        tally.max_attempt = max(tally.max_attempt, attempt or 0)
        call = Call(
            n=self._n,
            job_id=job_id,
            attempt=attempt,
            kind=kind,
            provider=provider,
            path=path[:_PATH_LIMIT],
            in_flight=tally.in_flight,
            started_ms=round(time.time() * 1e3, 3),
            started_monotonic_ms=round(time.monotonic() * 1e3, 3),
        )
        self._remember(call, tally)
        self._notify()
        return call

    def end(self, call: Call, status: int | None, *, client_gone: bool = False) -> None:
        """Record how a call ended; only the first end of a call counts."""
        if call.ended_ms is not None:
            return
        call.ended_ms = round(time.time() * 1e3, 3)
        call.ended_monotonic_ms = round(time.monotonic() * 1e3, 3)
        call.status = status
        call.client_gone = client_gone
        tally = self._tallies[call.kind]
        tally.in_flight -= 1
        if call.n >= self._first_counted:
            tally.by_status["none" if status is None else str(status)] += 1
            tally.client_gone += client_gone
        if self._file is not None:
            self._file.write(json.dumps(call.as_dict()) + "\n")
        self._notify()

    def calls(self, *, job: str | None = None, kind: Kind | None = None) -> list[Call]:
        """Return the kept calls in order of arrival, those in flight too."""
        kept = self._calls if job is None else self._by_job.get(job, ())
        return [call for call in kept if kind is None or call.kind == kind]

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the figures by kind."""
        return {str(kind): tally.as_dict() for kind, tally in self._tallies.items()}

    def in_flight(self, kind: Kind) -> int:
        """Return how many calls of the kind have begun and not ended."""
        return self._tallies[kind].in_flight

    def reset(self) -> None:
        """Forget everything but what is in flight, which stays counted as such."""
        self._calls.clear()
        self._by_job.clear()
        self._first_counted = self._n + 1
        for kind, old in self._tallies.items():
            self._tallies[kind] = _Tally(in_flight=old.in_flight, max_in_flight=old.in_flight)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at whenever a call begins or ends."""
        if condition():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        await future

    def close(self) -> None:
        """Close the JSON-lines file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _remember(self, call: Call, tally: _Tally) -> None:
        self._calls.append(call)
        if call.job_id is not None:
            self._by_job[call.job_id].append(call)
            tally.jobs[call.job_id] += 1
            tally.max_calls_per_job = max(tally.max_calls_per_job, tally.jobs[call.job_id])
        if len(self._calls) > self._keep:
            self._forget(self._calls.popleft())

    def _forget(self, call: Call) -> None:
        if call.job_id is None:
            return
        of_job = self._by_job[call.job_id]
        of_job.popleft()
        if not of_job:
            del self._by_job[call.job_id]
        jobs = self._tallies[call.kind].jobs
        jobs[call.job_id] -= 1
        if not jobs[call.job_id]:
            del jobs[call.job_id]

    def _notify(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for condition, future in waiting:
            if future.done():
                continue
            if condition():
                future.set_result(None)
            else:
                self._waiting.append((condition, future))


def split_request_id(request_id: str | None) -> tuple[str | None, int | None]:
    """Split `<job id>.<attempt>`; without a number behind the last dot it is all job id."""
    if not request_id:
        return None, None
    request_id = request_id[:_ID_LIMIT]
    job_id, _, attempt = request_id.rpartition(".")
    if job_id and attempt.isascii() and attempt.isdigit():
        return job_id, int(attempt)
    return request_id, None
