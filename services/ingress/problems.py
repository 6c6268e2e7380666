"""Everything the API can answer that is not what was asked for, in one table (RFC 9457).

The rest of the ingress raises `RequestRefused` with a code and a sentence; only this table knows
the status that goes with a code. `job.error` is the same document, so that a caller learns one
shape. A problem never repeats the input: a body may hold what must not be seen in a log.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

from forebay.errors import ErrorCode, ForebayError, JobError

MEDIA_TYPE = "application/problem+json"


class ProblemCode(StrEnum):
    """Why a request was not served. Part of the HTTP contract, as `ErrorCode` is for jobs."""

    MALFORMED_JSON = "malformed_json"
    """The body is not JSON, not UTF-8, or nested too deep."""
    UNAUTHENTICATED = "unauthenticated"
    """No API key was sent, or none that is live."""
    FORBIDDEN = "forbidden"
    """The role of the API key may not do this. Where no key is asked for: the request came from a
    web page of another site, or to a host name that is not one of loopback."""
    MALFORMED_REQUEST = "malformed_request"
    """What came is not an HTTP/1.1 request."""
    NOT_FOUND = "not_found"
    """No such job for this tenant, or no such path."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    """The path exists, but not for this method; `Allow` has the ones it takes."""
    RESULT_EXPIRED = "result_expired"
    """The job succeeded and its result is kept no longer."""
    EVENTS_EXPIRED = "events_expired"
    """What the job wrote is kept no longer, so its events cannot be told again."""
    NOT_TERMINAL = "not_terminal"
    """The job is not done, so it cannot be run again."""
    OTHER_GENERATION = "other_generation"
    """The job is in another generation than the one that was to run again: somebody did that
    before, perhaps this caller without hearing the answer. Nothing was changed now."""
    TOO_MANY_KEYS = "too_many_keys"
    """The tenant has as many live API keys as it may have; revoke one first."""
    TOO_MANY_ENDPOINTS = "too_many_endpoints"
    """The tenant has as many webhook endpoints as it may have; remove one first."""
    REQUEST_TIMEOUT = "request_timeout"
    """The request did not come in time; nothing was accepted."""
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    """The body is not declared as JSON in UTF-8."""
    VALIDATION_ERROR = "validation_error"
    """The body, the query or a header does not say what it must; `errors` names each place."""
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The key came before with another body."""
    DEADLINE_IN_PAST = "deadline_in_past"
    ADDRESS_FORBIDDEN = "address_forbidden"
    """The target is an address that must not be called from here."""
    HEADERS_TOO_LARGE = "headers_too_large"
    """The request line and the headers together are over 64 KiB."""
    RATE_LIMITED = "rate_limited"
    """The API key has used its requests of the present window; nothing was done."""
    QUOTA_EXCEEDED = "quota_exceeded"
    """The API key has as many jobs that are not done as it may have; no new one was accepted."""
    OVERLOADED = "overloaded"
    """Too many accepts in flight, or so many jobs wait that one more would wait too long, too
    many bytes of bodies are under way, or too many callers follow jobs. Nothing was accepted."""
    STORE_UNAVAILABLE = "store_unavailable"
    """The store does not answer. A job that was being accepted may be stored: repeat it under the
    same Idempotency-Key."""
    STOPPING = "stopping"
    """`/readyz` only: the process was asked to stop and serves on for a moment."""
    INTERNAL = "internal"
    """A defect of ours; the log has the details under the request's id."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """What is the same in every problem with a code."""

    status: int
    title: str
    retryable: bool = False


_REQUESTS: dict[str, ProblemKind] = {
    ProblemCode.MALFORMED_JSON: ProblemKind(400, "The body is not readable JSON"),
    ProblemCode.UNAUTHENTICATED: ProblemKind(401, "Nobody knows who asks"),
    ProblemCode.FORBIDDEN: ProblemKind(403, "The caller may not do this"),
    ProblemCode.MALFORMED_REQUEST: ProblemKind(400, "The request cannot be read"),
    ProblemCode.NOT_FOUND: ProblemKind(404, "Not found"),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemKind(405, "Method not allowed"),
    ProblemCode.REQUEST_TIMEOUT: ProblemKind(408, "The request came too slowly", retryable=True),
    ProblemCode.NOT_TERMINAL: ProblemKind(409, "The job is not done yet", retryable=True),
    ProblemCode.OTHER_GENERATION: ProblemKind(409, "The job is in another generation"),
    ProblemCode.TOO_MANY_KEYS: ProblemKind(409, "The tenant has too many API keys"),
    ProblemCode.TOO_MANY_ENDPOINTS: ProblemKind(409, "There are too many webhook endpoints"),
    ProblemCode.RESULT_EXPIRED: ProblemKind(410, "The result is kept no longer"),
    ProblemCode.EVENTS_EXPIRED: ProblemKind(410, "The events are kept no longer"),
    ProblemCode.PAYLOAD_TOO_LARGE: ProblemKind(413, "The body is too large"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: ProblemKind(415, "The body must be JSON"),
    ProblemCode.VALIDATION_ERROR: ProblemKind(422, "The request is not valid"),
    ProblemCode.IDEMPOTENCY_KEY_REUSED: ProblemKind(422, "The idempotency key was used before"),
    ProblemCode.DEADLINE_IN_PAST: ProblemKind(422, "The time limit has passed already"),
    ProblemCode.ADDRESS_FORBIDDEN: ProblemKind(422, "The address must not be called"),
    ProblemCode.HEADERS_TOO_LARGE: ProblemKind(431, "The headers are too large"),
    ProblemCode.RATE_LIMITED: ProblemKind(429, "Too many requests of this key", retryable=True),
    ProblemCode.QUOTA_EXCEEDED: ProblemKind(429, "Too many open jobs", retryable=True),
    ProblemCode.OVERLOADED: ProblemKind(503, "Too many requests at once", retryable=True),
    ProblemCode.STORE_UNAVAILABLE: ProblemKind(503, "The store does not answer", retryable=True),
    ProblemCode.STOPPING: ProblemKind(503, "The process stops", retryable=True),
    ProblemCode.INTERNAL: ProblemKind(500, "A defect of the service"),
}

_JOBS: dict[str, ProblemKind] = {
    ErrorCode.PROVIDER_ERROR: ProblemKind(502, "The provider failed"),
    ErrorCode.PROVIDER_TIMEOUT: ProblemKind(504, "The provider did not answer in time"),
    # Not 429: that status is the caller's own quota, and this is ours with the provider.
    ErrorCode.PROVIDER_RATE_LIMITED: ProblemKind(502, "The provider limits our rate"),
    ErrorCode.PROVIDER_REJECTED: ProblemKind(422, "The provider refused the request"),
    ErrorCode.PROVIDER_AUTH: ProblemKind(502, "The provider does not accept our key"),
    ErrorCode.ADDRESS_FORBIDDEN: _REQUESTS[ProblemCode.ADDRESS_FORBIDDEN],
    ErrorCode.ROBOTS_DENIED: ProblemKind(403, "The site's robots.txt forbids the page"),
    ErrorCode.TOO_LARGE: ProblemKind(413, "The answer is too large"),
    ErrorCode.INVALID_INPUT: ProblemKind(500, "The stored input cannot be read"),
    ErrorCode.DEADLINE_EXCEEDED: ProblemKind(504, "The time limit passed"),
    ErrorCode.CANCELED: ProblemKind(409, "The job was canceled"),
    ErrorCode.OUTCOME_UNKNOWN: ProblemKind(502, "Nobody knows how the call ended"),
    ErrorCode.ATTEMPTS_EXHAUSTED: ProblemKind(502, "Every attempt failed"),
    ErrorCode.ENDPOINT_DISABLED: ProblemKind(409, "The webhook endpoint is disabled"),
    ErrorCode.INTERNAL: _REQUESTS[ProblemCode.INTERNAL],
}

PROBLEMS: Mapping[str, ProblemKind] = MappingProxyType({**_REQUESTS, **_JOBS})


class InvalidPart(BaseModel):
    """One place of the request that is not valid: exactly one of the three says where."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    pointer: str | None = None
    """In the body, as a JSON pointer (RFC 6901)."""
    parameter: str | None = None
    """In the query: the parameter's name."""
    header: str | None = None
    """In a header: its name."""
    detail: str
    """What is expected there."""


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(
        frozen=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:forebay:problem:validation_error",
                    "title": "The request is not valid",
                    "status": 422,
                    "detail": "1 part of the request is not valid.",
                    "instance": "/v1/jobs",
                    "code": "validation_error",
                    "retryable": False,
                    "retry_after_s": None,
                    "request_id": "req_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
                    "errors": [{"pointer": "/input/query", "detail": "Field required"}],
                }
            ]
        },
    )

    type: str
    """A name of the problem that stays the same, one for each code."""
    title: str
    status: int
    """The HTTP status; in `job.error`, the status with which `/result` answers."""
    detail: str
    """What went wrong, why, and what to do."""
    instance: str
    """The path it happened at."""
    code: str
    """For programs: one of a closed set, listed in docs/errors.md."""
    retryable: bool
    """Whether the same request or job could succeed later."""
    retry_after_s: float | None = None
    """Seconds to wait before the next try."""
    request_id: str | None = None
    """To find the request in the logs; null in `job.error`."""
    errors: tuple[InvalidPart, ...] = ()
    """Each place that is not valid, with `validation_error` and its kin."""


class RequestRefused(ForebayError):
    """The request is not served; it says why, without a status and without the input."""

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        errors: tuple[InvalidPart, ...] = (),
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})

    def to_problem(self, instance: str, request_id: str | None) -> Problem:
        """The document that the caller reads."""
        kind = PROBLEMS[self.code]
        return Problem(
            type=type_of(self.code),
            title=kind.title,
            status=kind.status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            retryable=kind.retryable,
            retry_after_s=self.retry_after_s,
            request_id=request_id,
            errors=self.errors,
        )


def store_unavailable(consequence: str) -> RequestRefused:
    """The refusal while the store does not answer."""
    return come_back(ProblemCode.STORE_UNAVAILABLE, f"The store does not answer now. {consequence}")


def overloaded() -> RequestRefused:
    """The refusal of a submission of which nothing was begun."""
    return come_back(
        ProblemCode.OVERLOADED, "Too many requests are being accepted now; nothing was accepted."
    )


def come_back(code: ProblemCode, detail: str) -> RequestRefused:
    """A refusal that passes within seconds, and says in how many to try again."""
    # Jitter, so that all who are refused together do not return together.
    seconds = 1 + int(random.random() * 4)  # noqa: S311 - spreads load, guards nothing
    return RequestRefused(code, f"{detail} Try again in {seconds} s.", retry_after_s=seconds)


def rendered(problem: Problem) -> str:
    """The document as JSON; of the places an invalid part can have, only the one it has is said."""
    content = problem.model_dump_json(exclude={"errors"})
    parts = ",".join(part.model_dump_json(exclude_none=True) for part in problem.errors)
    return f'{content[:-1]},"errors":[{parts}]}}'


def type_of(code: str) -> str:
    """The problem type of a code: a URN, because it names and need not be fetched."""
    return f"urn:forebay:problem:{code}"


def job_problem(error: JobError, instance: str) -> dict[str, Any]:
    """`job.error` as a problem document."""
    kind = PROBLEMS[error.code]
    return {
        "type": type_of(error.code),
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "retryable": error.retryable,
        "retry_after_s": error.retry_after_s,
        "request_id": None,
        "errors": [],
    }
