"""What can go wrong, drawn once.

Two kinds of things live here. Exceptions are for us: they say that a call could not do its work.

    ForebayError
    ├── ConfigurationError     a setting is missing or makes no sense; the process exits 2
    ├── IllegalTransition      a job was asked to do what its state does not allow
    │   └── OtherGeneration    it is not, or no more, in the generation that was asked about
    ├── StoreError
    │   ├── StoreUnavailable   the store did not answer; the write may or may not have happened
    │   ├── StoreOverloaded    too much waits to be stored already; nothing was written
    │   ├── StoreUnfit         the store cannot give the durability we promise; refuse to start
    │   └── Unstorable         the value cannot be written, now or later; nothing was written
    ├── BrokerError
    │   ├── BrokerUnavailable  no connection now; whoever waits in the store is published later
    │   └── TopologyMissing    an exchange or queue is not there; `forebay topology apply` makes it
    ├── ClusterError           secrets could not be made, or the Kubernetes API refused
    │   └── ClusterUnavailable the Kubernetes API does not answer now; nothing was made
    └── CallError              a call to the outside ended; it never leaves the handler that made it
        ├── AddressForbidden   the target is an address that must not be called from here
        ├── TooLarge           the answer is larger than allowed; reading stopped there
        └── Unreadable         the answer is broken off or in an encoding we did not ask for

Values are for the job: a `JobError` is what a caller reads, with whose fault it was. A handler
answers with one, it never raises one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class ForebayError(Exception):
    """Something went wrong in Forebay."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class ConfigurationError(ForebayError):
    """A setting is missing or makes no sense."""


class IllegalTransition(ForebayError):
    """The job's state does not allow this."""


class OtherGeneration(IllegalTransition):
    """The job is in another generation than the one that was asked about."""


class StoreError(ForebayError):
    """The store could not do its work."""


class StoreUnavailable(StoreError):
    """The store did not answer in time; a write may or may not have happened."""


class StoreOverloaded(StoreError):
    """Too much waits to be stored already; nothing was written."""


class StoreUnfit(StoreError):
    """The store cannot give majority and journaled writes."""


class Unstorable(StoreError):
    """The value cannot be written, now or later: not Unicode text, or too large a document."""


class BrokerError(ForebayError):
    """The broker could not do its work."""


class BrokerUnavailable(BrokerError):
    """There is no usable connection to the broker now."""


class TopologyMissing(BrokerError):
    """An exchange or queue is missing; run `forebay topology apply`."""


class ClusterError(ForebayError):
    """The cluster, or the folder that stands for it, could not be given what it needs."""


class ClusterUnavailable(ClusterError):
    """The Kubernetes API does not answer now."""


class CallError(ForebayError):
    """A call to the outside did not give what it should."""


class AddressForbidden(CallError):
    """The target is an address that must not be called from here."""


class TooLarge(CallError):
    """The answer is larger than allowed.

    Attributes:
        kind: where the limit was passed: `wire` (as received) or `decoded` (after decompression).
        limit: the limit, in bytes.
    """

    def __init__(self, kind: Literal["wire", "decoded"], limit: int) -> None:
        super().__init__(f"the answer is larger than {limit} bytes ({kind})")
        self.kind = kind
        self.limit = limit


class Unreadable(CallError):
    """The answer is broken off, damaged, or in an encoding that was not asked for."""


class Fault(StrEnum):
    """Whose fault an error is; it decides who can mend it."""

    OURS = "ours"
    CALLER = "caller"
    PROVIDER = "provider"


class ErrorCode(StrEnum):
    """Why a job did not succeed. These are part of the HTTP contract (`job.error.code`)."""

    PROVIDER_ERROR = "provider_error"
    """The provider answered 5xx, something unreadable, or the connection broke."""
    PROVIDER_TIMEOUT = "provider_timeout"
    """The provider did not answer within the time limit of the call."""
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    """The provider answered 429; seen on attempts, and on a job only inside its history."""
    PROVIDER_REJECTED = "provider_rejected"
    """The provider refused the request as it stands (400, 404, 422); the same again is useless."""
    PROVIDER_AUTH = "provider_auth"
    """The provider refused our key, or no key is set; an operator must mend it."""
    ADDRESS_FORBIDDEN = "address_forbidden"
    """The target resolves to an address that must not be called from here."""
    ROBOTS_DENIED = "robots_denied"
    """The site's robots.txt forbids the page to us."""
    TOO_LARGE = "too_large"
    """The answer is larger than the limit of the request or of the service."""
    INVALID_INPUT = "invalid_input"
    """The stored input cannot be read by this version of the worker."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """`start_by` or `deadline` passed first."""
    CANCELED = "canceled"
    """The caller canceled it."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The worker died during the call and the job said `on_unknown = fail`."""
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    """Every allowed attempt ended in an error that could have passed; `detail` has the last one."""
    ENDPOINT_DISABLED = "endpoint_disabled"
    """Of a webhook delivery: its endpoint is disabled or gone."""
    INTERNAL = "internal"
    """A defect of ours; the log has the details under the job's id."""


FAULTS: dict[ErrorCode, Fault] = {
    ErrorCode.PROVIDER_ERROR: Fault.PROVIDER,
    ErrorCode.PROVIDER_TIMEOUT: Fault.PROVIDER,
    ErrorCode.PROVIDER_RATE_LIMITED: Fault.PROVIDER,
    ErrorCode.PROVIDER_REJECTED: Fault.CALLER,
    ErrorCode.PROVIDER_AUTH: Fault.OURS,
    ErrorCode.ADDRESS_FORBIDDEN: Fault.CALLER,
    ErrorCode.ROBOTS_DENIED: Fault.CALLER,
    ErrorCode.TOO_LARGE: Fault.CALLER,
    ErrorCode.INVALID_INPUT: Fault.OURS,
    ErrorCode.DEADLINE_EXCEEDED: Fault.CALLER,
    ErrorCode.CANCELED: Fault.CALLER,
    ErrorCode.OUTCOME_UNKNOWN: Fault.OURS,
    ErrorCode.ATTEMPTS_EXHAUSTED: Fault.PROVIDER,
    ErrorCode.ENDPOINT_DISABLED: Fault.CALLER,
    ErrorCode.INTERNAL: Fault.OURS,
}


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt or a job did not succeed.

    `detail` is for a person: what, why, what to do. It never repeats the input and never holds a
    secret. `retryable` says whether the same job could succeed later.
    """

    code: ErrorCode
    detail: str
    retryable: bool = False
    retry_after_s: float | None = None

    @property
    def fault(self) -> Fault:
        """Whose fault it is."""
        return FAULTS[self.code]


def attempts_exhausted(max_attempts: int, last: str) -> JobError:
    """The error of a job whose attempts ran out; `last` says how the last one ended."""
    return JobError(
        ErrorCode.ATTEMPTS_EXHAUSTED, f"No attempt of {max_attempts} succeeded; the last: {last}"
    )


def outcome_unknown() -> JobError:
    """The error of a job that must not be repeated and whose worker was lost during the call."""
    return JobError(
        ErrorCode.OUTCOME_UNKNOWN,
        "The worker was lost during the call, so the provider may have done the work or not, and "
        "the job says `on_unknown: fail`.",
    )
