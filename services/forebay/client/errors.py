"""What a call of the client can raise, drawn once.

    ForebayError
    └── ClientError
        ├── Unreachable          no answer, or one that broke off; it may have been accepted
        ├── UnexpectedAnswer     whoever answered is not the API of an ingress
        ├── NotDone              waited in vain; also a `TimeoutError`
        ├── JobFailed            the job failed, expired or was canceled
        └── Refused              answered with a problem document
            ├── Unauthenticated  401
            ├── Forbidden        403
            ├── NotFound         404
            ├── Conflict         409
            ├── Gone             410
            ├── Invalid          400, 413, 415, 422: the request must be changed
            ├── RateLimited      429
            └── Unavailable      408, 502, 503, 504

What passes by itself (`passing`) was tried again already, as long as the client's patience is.
"""

from __future__ import annotations

from typing import ClassVar

from forebay.client.views import Batch, InvalidPart, Job, Problem
from forebay.client.webhook_views import WebhookDelivery
from forebay.errors import ForebayError


class ClientError(ForebayError):
    """A call to the API did not give what it should."""

    passing: ClassVar[bool] = False
    """Whether the same call may succeed a little later."""
    retry_after_s: float | None = None
    """How long the service asks to wait before the next try, in seconds."""
    repeated: bool = False
    """Whether it was the answer to a repeat: the first try may have had its effect."""


class Unreachable(ClientError):
    """The API does not answer."""

    passing = True


class UnexpectedAnswer(ClientError):
    """The answer is not one of the API."""


class NotDone(ClientError, TimeoutError):
    """It was not done in time.

    Attributes:
        seen: the job, batch or delivery as it was seen last, if it was.
    """

    def __init__(self, message: str, seen: Job | Batch | WebhookDelivery | None) -> None:
        super().__init__(message)
        self.seen = seen


class JobFailed(ClientError):
    """The job did not succeed.

    Attributes:
        job: the job, with its `error`.
    """

    def __init__(self, job: Job) -> None:
        why = f"{job.error.code}: {job.error.detail}" if job.error else "nothing is known of why"
        super().__init__(f"{job.id} {job.state}: {why}")
        self.job = job


class Refused(ClientError):
    """The request was refused.

    Attributes:
        problem: the whole document.
    """

    def __init__(self, problem: Problem) -> None:
        request = f", {problem.request_id}" if problem.request_id else ""
        super().__init__(f"{problem} ({problem.status} {problem.code}{request})")
        self.problem = problem
        self.retry_after_s = problem.retry_after_s

    @property
    def code(self) -> str:
        """Why, for programs: one of those in docs/errors.md."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What went wrong, why, and what to do."""
        return self.problem.detail

    @property
    def errors(self) -> tuple[InvalidPart, ...]:
        """Each place of the request that is not valid."""
        return self.problem.errors

    @property
    def request_id(self) -> str | None:
        """To find the request in the service's logs."""
        return self.problem.request_id


class Unauthenticated(Refused):
    """No API key, or one that is not known."""


class Forbidden(Refused):
    """The caller may not do this."""


class NotFound(Refused):
    """It is not there, or belongs to another tenant."""


class Conflict(Refused):
    """The job's state does not allow it."""


class Gone(Refused):
    """It was there and is kept no longer."""


class Invalid(Refused):
    """The request must be changed."""


class RateLimited(Refused):
    """The caller's own quota is used up for now."""

    passing = True


class Unavailable(Refused):
    """The service cannot take the request now."""

    passing = True


_BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    **dict.fromkeys((400, 413, 415, 422), Invalid),
    429: RateLimited,
    **dict.fromkeys((408, 502, 503, 504), Unavailable),
}


def refused(problem: Problem) -> Refused:
    """The exception that goes with a problem."""
    return _BY_STATUS.get(problem.status, Refused)(problem)
