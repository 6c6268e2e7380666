from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from loadtest.providers.behaviour import (
    CHAOS,
    DEMO,
    PROFILES,
    QUIET,
    CallKey,
    Kind,
    Profile,
    decide,
    retry_after_header,
)


def key(job: int, attempt: int = 1, seed: int = 1) -> CallKey:
    return CallKey(seed, "brave", f"job_{job}", attempt, "search")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_same_call_always_meets_the_same_fate(profile: Profile):
    for job in range(200):
        assert decide(profile, Kind.LLM, key(job)) == decide(profile, Kind.LLM, key(job))


def test_another_seed_is_another_world():
    fates = [[decide(CHAOS, Kind.LLM, key(job, seed=seed)) for job in range(50)] for seed in (1, 2)]
    assert fates[0] != fates[1]


def test_the_quiet_world_has_no_faults_and_answers_in_milliseconds():
    plans = [decide(QUIET, kind, key(job)) for kind in Kind for job in range(500)]
    assert {plan.fault for plan in plans} == {None}
    assert max(plan.latency_s for plan in plans) <= 0.006


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(Kind.SEARCH, 0.3, 1.2), (Kind.CRAWL, 0.1, 0.6), (Kind.LLM, 0.8, 2.5)]
)
def test_the_demo_keeps_its_latency_ranges_and_fails_three_calls_in_a_hundred(
    kind: Kind, low: float, high: float
):
    plans = [decide(DEMO, kind, key(job)) for job in range(20_000)]
    assert low <= min(plan.latency_s for plan in plans) < low + (high - low) / 20
    assert high - (high - low) / 20 < max(plan.latency_s for plan in plans) <= high
    shares = Counter(plan.fault for plan in plans)
    assert set(shares) == {None, "status_429", "status_500"}
    assert 0.015 < shares["status_429"] / 20_000 < 0.025
    assert 0.007 < shares["status_500"] / 20_000 < 0.013
    assert all((plan.retry_after is not None) == (plan.status == 429) for plan in plans)


def test_a_retry_of_a_failed_call_normally_succeeds():
    failed = [job for job in range(20_000) if decide(DEMO, Kind.LLM, key(job)).fault]
    again = sum(decide(DEMO, Kind.LLM, key(job, attempt=2)).fault is not None for job in failed)
    assert again / len(failed) < 0.08


def test_chaos_meets_every_fault_it_lists():
    faults = {decide(CHAOS, Kind.LLM, key(job)).fault for job in range(3000)}
    expected = {"status_429", "status_500", "hang", "truncate", "drop", "invalid_json", None}
    assert faults == expected


def test_without_faults_the_latency_stays_the_same():
    for job in range(200):
        plan = decide(CHAOS, Kind.LLM, key(job), faults=False)
        assert plan.fault is None
        assert plan.latency_s == decide(CHAOS, Kind.LLM, key(job)).latency_s


def test_retry_after_is_seconds_a_date_or_junk():
    now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert retry_after_header("3", now) == "3"
    date = parsedate_to_datetime(retry_after_header("http-date:9", now))
    assert (date - now).total_seconds() == 9
    assert parsedate_to_datetime(retry_after_header("HTTP-date", now)) > now
    assert not retry_after_header("garbage", now).isdigit()
