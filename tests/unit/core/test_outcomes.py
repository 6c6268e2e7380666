"""What a provider's status means for the job."""

from __future__ import annotations

import pytest

from forebay.errors import FAULTS, ErrorCode, Fault
from forebay.outcomes import Call, Failed, Retry, refusal


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (400, ErrorCode.PROVIDER_REJECTED, False),
        (401, ErrorCode.PROVIDER_AUTH, False),
        (402, ErrorCode.PROVIDER_REJECTED, False),
        (403, ErrorCode.PROVIDER_AUTH, False),
        (404, ErrorCode.PROVIDER_REJECTED, False),
        (408, ErrorCode.PROVIDER_TIMEOUT, True),
        (422, ErrorCode.PROVIDER_REJECTED, False),
        (425, ErrorCode.PROVIDER_TIMEOUT, True),
        (429, ErrorCode.PROVIDER_RATE_LIMITED, True),
        (500, ErrorCode.PROVIDER_ERROR, True),
        (503, ErrorCode.PROVIDER_ERROR, True),
        (529, ErrorCode.PROVIDER_ERROR, True),
    ],
)
def test_a_status_can_pass_or_not(status: int, code: ErrorCode, again: bool) -> None:
    outcome = refusal(Call("acme", status), retry_after_s=7)
    assert isinstance(outcome, Retry if again else Failed)
    assert outcome.error.code is code
    assert outcome.error.retryable is again
    assert outcome.error.retry_after_s == (7 if again else None)
    assert outcome.call == Call("acme", status)
    assert outcome.error.detail.startswith(f"acme answered {status}: ")


def test_every_code_says_whose_fault_it_is() -> None:
    assert set(FAULTS) == set(ErrorCode)
    assert refusal(Call("acme", 400)).error.fault is Fault.CALLER
    assert refusal(Call("acme", 401)).error.fault is Fault.OURS
    assert refusal(Call("acme", 500)).error.fault is Fault.PROVIDER
