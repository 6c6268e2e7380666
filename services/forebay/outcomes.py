"""What a handler answers with: a closed set, matched exhaustively by the execution.

A handler never raises for what a provider did. It says `Succeeded`, `Retry`, `Failed` or `Snooze`,
and the execution decides what that means for the job (attempts left, backoff, deadline).
"""

from __future__ import annotations

from dataclasses import dataclass

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """Whom the handler called and what came back; kept in the job's history."""

    provider: str
    http_status: int | None = None
    request_id: str | None = None
    """The provider's own id of the request, for its support."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The provider answered; `result` is JSON text."""

    result: str
    call: Call
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed in a way that can pass; `error.retry_after_s` is the provider's own wish."""

    error: JobError
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It failed in a way that will not pass."""

    error: JobError
    call: Call | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """No call was made, and none can be for `for_s` seconds; the attempt is not counted."""

    for_s: float
    reason: str


Outcome = Succeeded | Retry | Failed | Snooze


def refusal(call: Call, retry_after_s: float | None = None) -> Retry | Failed:
    """What a provider's HTTP status of 400 and above means for the job.

    408, 425, 429 and 5xx can pass. 401 and 403 are about our key, the other 4xx about the request:
    the same again is useless.
    """
    status = call.http_status or 0
    who = f"{call.provider} answered {status}"
    if status == 429:
        code, detail, passing = ErrorCode.PROVIDER_RATE_LIMITED, f"{who}: its rate limit.", True
    elif status in {408, 425}:
        code, detail, passing = ErrorCode.PROVIDER_TIMEOUT, f"{who}: it gave up waiting.", True
    elif status >= 500:
        code, detail, passing = ErrorCode.PROVIDER_ERROR, f"{who}: a failure on its side.", True
    elif status in {401, 403}:
        detail = f"{who}: it does not accept our key; an operator must check the provider's key."
        code, passing = ErrorCode.PROVIDER_AUTH, False
    else:
        detail = f"{who}: it refuses the request as it stands; change the input."
        code, passing = ErrorCode.PROVIDER_REJECTED, False
    error = JobError(code, detail, passing, retry_after_s if passing else None)
    return Retry(error, call) if passing else Failed(error, call)
