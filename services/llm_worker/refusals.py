"""What an answer that is no completion means for the job, the same for every provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from forebay.errors import ErrorCode, JobError
from forebay.http import outcome_of_failure
from forebay.outcomes import Call, Failed, Retry, refusal
from forebay.retry import parse_retry_after
from llm_worker.carrier import carried_failure

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What reading an answer of another shape raises, in an SDK or in our models of it."""


def refused(call: Call, headers: Mapping[str, str]) -> Retry | Failed:
    """The outcome of a status that is not a success, seen before any text came."""
    status = call.http_status or 0
    if 300 <= status < 400:
        detail = f"{call.provider} answered with a redirect; an operator must check its base URL."
        return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
    if status == 402:
        return no_credit(call)
    wish = parse_retry_after(headers.get("retry-after"), datetime.now(UTC))
    if status == 409:
        # Both SDKs repeat it: a lock that somebody else held on the provider's side.
        detail = f"{call.provider} answered 409: a conflict on its side."
        return Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, True, wish), call)
    return refusal(call, wish)


def no_credit(call: Call) -> Failed:
    """The account cannot pay: to call again is useless until an operator mends it."""
    detail = f"{call.provider} answered that the account has no credit; an operator must add some."
    return Failed(JobError(ErrorCode.PROVIDER_AUTH, detail), call)


def incomplete(call: Call) -> Retry:
    """The answer ended without its end: half a text is never stored as a result."""
    detail = f"{call.provider}: its answer broke off before the end."
    return Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, True), call)


def interrupted(call: Call) -> Retry:
    """The provider reported a failure of its own in the middle of its answer."""
    detail = f"{call.provider} gave up in the middle of its answer: a failure on its side."
    return Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, True), call)


def unreadable(call: Call) -> Retry:
    """Something came that is no completion."""
    detail = f"{call.provider}: its answer is not of the form its documentation describes."
    return Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, True), call)


def broken(error: Exception, call: Call) -> Retry | Failed:
    """The outcome of an SDK's error that carries no status: the failure underneath decides."""
    underneath = carried_failure(error)
    if underneath is None:
        return unreadable(call)
    return replace(outcome_of_failure(underneath, call.provider), call=call)
