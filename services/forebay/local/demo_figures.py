"""The demo's figures, and whether they are what Forebay promises: pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.local.demo_calls import Receipt

KINDS = ("search", "crawl", "llm")
MAX_ACCEPT_P99_MS = 300.0
_CALLS_A_JOB_MAKES_IN_AN_ATTEMPT = ("search", "llm")  # one; a crawl also asks for robots.txt
Jobs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen from outside: by the callers, by the API, by the simulated providers.

    `stats` and `calls` are the simulators' own; `concurrency` is the bound of each kind.
    """

    receipts: Sequence[Receipt]
    jobs: Jobs
    stats: Mapping[str, Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    concurrency: Mapping[str, int]


def figures(seen: Observed, digest_s: float, versions: Mapping[str, str]) -> dict[str, Any]:
    """Everything that `.run/demo.json` holds."""
    accepted = [receipt for receipt in seen.receipts if receipt.status == 202]
    return {
        "submitted": len(seen.receipts),
        "accepted": len(accepted),
        "terminal": sum(job["done"] for job in seen.jobs),
        "succeeded": _in_state(seen.jobs, "succeeded"),
        "failed": _in_state(seen.jobs, "failed"),
        "by_kind": {kind: _of_kind(kind, seen) for kind in KINDS},
        "accept_ms": spread([receipt.ms for receipt in accepted]),
        "digest_s": round(digest_s, 2),
        "calls": sum(int(one["calls"]) for one in seen.stats.values()),
        "calls_answered_with_an_error": sum(map(_errors, seen.stats.values())),
        "retries": sum(max(0, job["attempts"] - 1) for job in seen.jobs),
        "calls_over_concurrency": sum(
            max(0, _most_at_once(kind, seen) - seen.concurrency[kind]) for kind in KINDS
        ),
        "jobs_over_max_attempts": over_max_attempts(seen.jobs, seen.calls),
        "versions": dict(versions),
    }


def broken_promises(found: Mapping[str, Any]) -> list[str]:
    """What does not hold, a sentence each; empty when all is well."""
    submitted, p99 = found["submitted"], found["accept_ms"]["p99"]
    checks = {
        f"{found['accepted']} of {submitted} requests were accepted.": (
            found["accepted"] == submitted
        ),
        f"{found['terminal']} of {submitted} jobs came to an end.": found["terminal"] == submitted,
        f"{found['succeeded']} of {submitted} jobs succeeded.": found["succeeded"] == submitted,
        f"Accepting took {p99} ms for the slowest in a hundred; {MAX_ACCEPT_P99_MS:.0f} ms is the "
        "bound.": p99 <= MAX_ACCEPT_P99_MS,
        f"{found['calls_over_concurrency']} calls ran above the workers' bound.": (
            found["calls_over_concurrency"] == 0
        ),
        f"{found['jobs_over_max_attempts']} jobs were tried more often than allowed.": (
            found["jobs_over_max_attempts"] == 0
        ),
    }
    missing = [kind for kind in KINDS if not found["by_kind"][kind]["succeeded"]]
    return [
        *(sentence for sentence, holds in checks.items() if not holds),
        *(f"No {kind} job succeeded." for kind in missing),
    ]


def over_max_attempts(jobs: Jobs, calls: Sequence[Mapping[str, Any]]) -> int:
    """Jobs with more attempts than allowed, by their own count or by the providers' log."""
    called = Counter(
        call["job_id"] for call in calls if call["kind"] in _CALLS_A_JOB_MAKES_IN_AN_ATTEMPT
    )
    return sum(max(job["attempts"], called[job["id"]]) > job["max_attempts"] for job in jobs)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles by nearest rank, in the unit of the values; all 0 for no value."""
    ordered = sorted(values) or [0.0]

    def rank(percent: int) -> float:
        return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 1)

    return {"p50": rank(50), "p90": rank(90), "p99": rank(99), "max": rank(100)}


def _of_kind(kind: str, seen: Observed) -> dict[str, Any]:
    jobs = [job for job in seen.jobs if job["kind"] == kind]
    receipts = [receipt for receipt in seen.receipts if receipt.kind == kind]
    stats = seen.stats.get(kind, {})
    return {
        "submitted": len(receipts),
        "accepted": sum(receipt.status == 202 for receipt in receipts),
        "succeeded": _in_state(jobs, "succeeded"),
        "failed": _in_state(jobs, "failed"),
        "retries": sum(max(0, job["attempts"] - 1) for job in jobs),
        "calls": int(stats.get("calls", 0)),
        "most_calls_at_once": _most_at_once(kind, seen),
        "concurrency": seen.concurrency[kind],
    }


def _in_state(jobs: Jobs, state: str) -> int:
    return sum(job["state"] == state for job in jobs)


def _most_at_once(kind: str, seen: Observed) -> int:
    return int(seen.stats.get(kind, {}).get("max_in_flight", 0))


def _errors(stats: Mapping[str, Any]) -> int:
    """Calls answered 4xx or 5xx, or not answered at all."""
    statuses: Mapping[str, int] = stats.get("by_status", {})
    return sum(n for status, n in statuses.items() if not status.startswith(("2", "3")))
