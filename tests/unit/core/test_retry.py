"""When a job is tried again, and how long it waits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import ErrorCode, JobError
from forebay.retry import RetryDecision, RetryPolicy, parse_retry_after

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
PASSING = JobError(ErrorCode.PROVIDER_ERROR, "it may pass", retryable=True)
CHANCES = st.floats(min_value=0, max_value=1, exclude_max=True)


def asked(seconds: float) -> JobError:
    return JobError(ErrorCode.PROVIDER_RATE_LIMITED, "", retryable=True, retry_after_s=seconds)


def test_an_error_that_will_not_pass_is_not_tried_again() -> None:
    final = JobError(ErrorCode.PROVIDER_REJECTED, "no", retryable=False, retry_after_s=5)
    assert RetryPolicy().decide(1, 5, final, 0.5) is None


@pytest.mark.parametrize(("attempts", "again"), [(1, True), (4, True), (5, False), (6, False)])
def test_attempts_end_at_the_limit(attempts: int, again: bool) -> None:
    assert (RetryPolicy().decide(attempts, 5, PASSING, 0.5) is not None) is again


@pytest.mark.parametrize(("attempts", "delay_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (10, 30.0)])
def test_backoff_doubles_up_to_its_cap(attempts: int, delay_s: float) -> None:
    policy = RetryPolicy(base_s=1, cap_s=60)
    assert policy.decide(attempts, 99, PASSING, 0.5) == RetryDecision(delay_s)


@given(attempts=st.integers(1, 10_000), chance=CHANCES)
def test_backoff_is_never_negative_and_never_above_its_cap(attempts: int, chance: float) -> None:
    decision = RetryPolicy(base_s=1, cap_s=60).decide(attempts, 99_999, PASSING, chance)
    assert decision is not None
    assert 0 <= decision.delay_s <= 60


@given(chance=CHANCES, wish=st.floats(min_value=0, max_value=3600))
def test_the_providers_wish_is_a_floor_with_jitter_on_top(chance: float, wish: float) -> None:
    decision = RetryPolicy(base_s=1, cap_s=60).decide(1, 5, asked(wish), chance)
    assert decision is not None
    assert wish <= decision.delay_s <= wish + 1


def test_an_absurd_wish_is_cut() -> None:
    policy = RetryPolicy(max_retry_after_s=3600)
    assert policy.decide(1, 5, asked(1e12), 0.0) == RetryDecision(3600)
    assert policy.decide(1, 5, asked(-5), 0.0) == RetryDecision(0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Sunday, 22-Nov-26 10:01:00 GMT", 60),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("9" * 40, None),
        ("Sun, 99 Nov 2026 10:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_ignored(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_header_can_break_the_parser(header: str) -> None:
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or seconds >= 0
