from __future__ import annotations

from typing import Any

import pytest

from forebay.local.demo_calls import Receipt
from forebay.local.demo_figures import KINDS, Observed, broken_promises, figures, spread
from forebay.local.demo_screen import summary

_BOUNDS = {"search": 2, "crawl": 2, "llm": 2}


def _job(kind: str, **changed: Any) -> dict[str, Any]:
    job = {"id": f"job_{kind}", "kind": kind, "state": "succeeded", "done": True}
    return job | {"attempts": 1, "max_attempts": 5} | changed


def _seen(**changed: Any) -> Observed:
    parts: dict[str, Any] = {
        "receipts": [Receipt(kind, 202, 10.0, f"job_{kind}") for kind in KINDS],
        "jobs": [_job(kind) for kind in KINDS],
        "stats": {k: {"calls": 1, "max_in_flight": 1, "by_status": {"200": 1}} for k in KINDS},
        "calls": [{"job_id": f"job_{kind}", "kind": kind} for kind in KINDS],
        "concurrency": _BOUNDS,
    }
    return Observed(**(parts | changed))


def _broken(seen: Observed) -> list[str]:
    return broken_promises(figures(seen, 1.0, {}))


def test_a_good_run_keeps_every_promise():
    found = figures(_seen(), 1.234, {"python": "3.11"})
    assert broken_promises(found) == []
    assert found["submitted"] == found["accepted"] == found["terminal"] == found["succeeded"] == 3
    assert found["digest_s"] == 1.23
    assert summary(found, [])[-1] == "All as promised."


def test_a_request_without_a_202_breaks_the_promise():
    receipts = [Receipt("search", 503, 1.0, None), *_seen().receipts[1:]]
    assert "2 of 3 requests were accepted." in _broken(_seen(receipts=receipts))


def test_a_job_that_never_ends_breaks_the_promise():
    jobs = [_job("search", state="running", done=False), *_seen().jobs[1:]]
    assert "2 of 3 jobs came to an end." in _broken(_seen(jobs=jobs))


def test_a_failed_job_breaks_the_promise_and_is_told_by_kind():
    jobs = [_job("search", state="failed"), *_seen().jobs[1:]]
    found = figures(_seen(jobs=jobs), 1.0, {})
    assert (found["failed"], found["by_kind"]["search"]["failed"]) == (1, 1)
    assert "No search job succeeded." in broken_promises(found)
    assert "NOT as promised: No search job succeeded." in summary(found, broken_promises(found))


def test_slow_accepting_breaks_the_promise():
    receipts = [Receipt(kind, 202, 301.0, f"job_{kind}") for kind in KINDS]
    assert any("301.0 ms" in sentence for sentence in _broken(_seen(receipts=receipts)))


def test_calls_above_the_bound_are_counted():
    stats = _seen().stats | {"llm": {"calls": 5, "max_in_flight": 5, "by_status": {"200": 5}}}
    found = figures(_seen(stats=stats), 1.0, {})
    assert found["calls_over_concurrency"] == 3
    assert broken_promises(found) == ["3 calls ran above the workers' bound."]


def test_more_attempts_than_allowed_are_found_in_the_jobs_own_count():
    jobs = [_job("search", attempts=6), *_seen().jobs[1:]]
    found = figures(_seen(jobs=jobs), 1.0, {})
    assert (found["jobs_over_max_attempts"], found["retries"]) == (1, 5)


def test_more_calls_than_attempts_allowed_are_found_in_the_providers_log():
    calls = [{"job_id": "job_llm", "kind": "llm"}] * 6
    assert figures(_seen(calls=calls), 1.0, {})["jobs_over_max_attempts"] == 1


def test_robots_txt_and_pages_of_one_crawl_are_not_taken_for_attempts():
    calls = [{"job_id": "job_crawl", "kind": "crawl"}] * 6
    assert figures(_seen(calls=calls), 1.0, {})["jobs_over_max_attempts"] == 0


def test_refusals_errors_and_missing_answers_count_as_errors():
    by_status = {"200": 7, "302": 1, "429": 2, "500": 1, "none": 1}
    stats = _seen().stats | {"llm": {"calls": 12, "max_in_flight": 1, "by_status": by_status}}
    found = figures(_seen(stats=stats), 1.0, {})
    assert (found["calls"], found["calls_answered_with_an_error"]) == (14, 4)


@pytest.mark.parametrize(
    ("values", "p50", "p99", "largest"),
    [([], 0, 0, 0), ([7.0], 7, 7, 7), (list(range(1, 101)), 50, 99, 100), ([1, 2], 1, 2, 2)],
)
def test_percentiles_are_by_nearest_rank(
    values: list[float], p50: float, p99: float, largest: float
):
    found = spread(values)
    assert (found["p50"], found["p99"], found["max"]) == (p50, p99, largest)
