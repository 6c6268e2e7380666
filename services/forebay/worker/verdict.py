"""What the end of an attempt means for its job: pure, so that every combination can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from forebay.errors import ErrorCode, JobError, attempts_exhausted, outcome_unknown
from forebay.jobs import Event, Job, OnUnknown, Usage, expiry_error
from forebay.outcomes import Call, Failed, Outcome, Retry, Snooze, Succeeded
from forebay.retry import Backoff


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The job's deadline came during the call, which was aborted."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The caller canceled the job during the call, which was aborted."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker had to stop during the call: nobody knows what the provider did."""


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The worker had to stop before the call."""


CANCELED = JobError(ErrorCode.CANCELED, "The job was canceled during its call.")

Closing = Outcome | DeadlinePassed | CancelRequested | Interrupted | NotBegun
"""Everything that can end an attempt while the lease is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The event that ends the attempt, and what is stored with it."""

    event: Event
    result: str | None = None
    error: JobError | None = None
    """What the job says."""
    cause: JobError | None = None
    """What the attempt says, where that is another: how the last of all attempts ended."""
    usage: Usage | None = None
    call: Call | None = None
    wait_s: float = 0.0
    uncount: bool = False
    dead_lettered: bool = False


def judge(job: Job, closing: Closing, policy: Backoff, chance: float) -> Verdict:
    """The verdict on an attempt of `job`; `chance` is the backoff's jitter, uniform in [0, 1)."""
    match closing:
        case Succeeded():
            return Verdict(
                event=Event.SUCCEEDED, result=closing.result, usage=closing.usage, call=closing.call
            )
        case Failed():
            return Verdict(
                event=Event.FAILED, error=closing.error, usage=closing.usage, call=closing.call
            )
        case Retry():
            return _retry(job, closing, policy, chance)
        case Snooze():
            return Verdict(event=Event.SNOOZED, wait_s=closing.for_s, uncount=True)
        case DeadlinePassed():
            return Verdict(event=Event.EXPIRED, error=expiry_error(job))
        case CancelRequested():
            return Verdict(event=Event.CANCELED, error=CANCELED)
        case Interrupted():
            return _interrupted(job)
        case NotBegun():
            return Verdict(event=Event.HANDED_BACK, uncount=True)
        case _:
            assert_never(closing)


def _retry(job: Job, outcome: Retry, policy: Backoff, chance: float) -> Verdict:
    decision = policy.decide(job.attempts, job.max_attempts, outcome.error, chance)
    if decision is not None:
        return Verdict(
            event=Event.RETRY_LATER, error=outcome.error, call=outcome.call, wait_s=decision.delay_s
        )
    if not outcome.error.retryable:
        return Verdict(event=Event.FAILED, error=outcome.error, call=outcome.call)
    return Verdict(
        event=Event.FAILED,
        error=attempts_exhausted(job.max_attempts, outcome.error.detail),
        cause=outcome.error,
        call=outcome.call,
        dead_lettered=True,
    )


def _interrupted(job: Job) -> Verdict:
    """The verdict on a call that was begun and whose end nobody saw.

    The attempt stays counted: the provider may have been called, and `max_attempts` bounds calls.
    """
    if job.on_unknown is OnUnknown.FAIL:
        return Verdict(event=Event.FAILED, error=outcome_unknown())
    if job.attempts < job.max_attempts:
        return Verdict(event=Event.HANDED_BACK)
    last = "the worker stopped during the last one"
    return Verdict(
        event=Event.FAILED, error=attempts_exhausted(job.max_attempts, last), dead_lettered=True
    )
