"""What the end of an attempt means for its job."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job, JobKind, JobState, Lane, OnUnknown, Usage
from forebay.outcomes import Call, Failed, Retry, Snooze, Succeeded
from forebay.retry import RetryPolicy
from forebay.worker.verdict import (
    CancelRequested,
    Closing,
    DeadlinePassed,
    Interrupted,
    Verdict,
    judge,
)

POLICY = RetryPolicy(base_s=10)
CALL = Call("acme", 200, "req-1")
PASSING = JobError(ErrorCode.PROVIDER_ERROR, "acme answered 500", retryable=True)
FINAL = JobError(ErrorCode.PROVIDER_REJECTED, "acme answered 400")


def verdict(closing: Closing, **job: object) -> Verdict:
    running = Job(
        id="job_1",
        tenant="t",
        kind=JobKind.LLM,
        lane=Lane.DEFAULT,
        state=JobState.RUNNING,
        input="{}",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempts=1,
        max_attempts=3,
    )
    return judge(running.evolve(**job), closing, POLICY, 0.5)


def test_a_success_keeps_result_usage_and_call() -> None:
    usage = Usage(3, 4, 1)
    said = verdict(Succeeded('{"a":1}', CALL, usage))
    assert said == Verdict(event=Event.SUCCEEDED, result='{"a":1}', usage=usage, call=CALL)


def test_what_can_pass_is_tried_later() -> None:
    said = verdict(Retry(PASSING, CALL))
    assert said == Verdict(event=Event.RETRY_LATER, error=PASSING, call=CALL, wait_s=5.0)


def test_what_can_pass_fails_when_no_attempt_is_left() -> None:
    said = verdict(Retry(PASSING, CALL), attempts=3)
    assert said.event is Event.FAILED
    assert said.dead_lettered
    assert said.error is not None
    assert said.error.code is ErrorCode.ATTEMPTS_EXHAUSTED
    assert said.error.detail == "No attempt of 3 succeeded; the last: acme answered 500"
    assert said.cause == PASSING


def test_what_will_not_pass_fails_at_once_and_is_no_dead_letter() -> None:
    assert verdict(Failed(FINAL, CALL)) == Verdict(event=Event.FAILED, error=FINAL, call=CALL)
    assert verdict(Retry(FINAL, CALL)) == Verdict(event=Event.FAILED, error=FINAL, call=CALL)


def test_a_snooze_gives_the_attempt_back() -> None:
    said = verdict(Snooze(30, "closed"), attempts=3)
    assert said == Verdict(event=Event.SNOOZED, wait_s=30, uncount=True)


def test_a_passed_deadline_expires_the_job() -> None:
    said = verdict(DeadlinePassed())
    assert said.event is Event.EXPIRED
    assert said.error is not None
    assert said.error.code is ErrorCode.DEADLINE_EXCEEDED


def test_a_cancel_during_the_call_cancels_the_job() -> None:
    said = verdict(CancelRequested())
    assert said.event is Event.CANCELED
    assert said.error is not None
    assert said.error.code is ErrorCode.CANCELED


@pytest.mark.parametrize(
    ("attempts", "on_unknown", "event", "code"),
    [
        (1, OnUnknown.RETRY, Event.HANDED_BACK, None),
        (3, OnUnknown.RETRY, Event.FAILED, ErrorCode.ATTEMPTS_EXHAUSTED),
        (1, OnUnknown.FAIL, Event.FAILED, ErrorCode.OUTCOME_UNKNOWN),
        (3, OnUnknown.FAIL, Event.FAILED, ErrorCode.OUTCOME_UNKNOWN),
    ],
)
def test_an_interrupted_call_is_counted_so_that_the_limit_of_calls_holds(
    attempts: int, on_unknown: OnUnknown, event: Event, code: ErrorCode | None
) -> None:
    said = verdict(Interrupted(), attempts=attempts, on_unknown=on_unknown)
    assert said.event is event
    assert not said.uncount
    assert (said.error.code if said.error else None) is code
