"""What the API answers, as frozen values.

A field that this version does not know is kept and can be read like any other; a state or kind that
it does not know is plain text. So an old client reads a new server.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SkipValidation

from forebay.jobs import JobKind, JobState


def _text(moment: datetime) -> str:
    """As the API writes a time, so that a view goes out as it came in."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"


Moment = Annotated[datetime, PlainSerializer(_text, when_used="json")]
# Not judged: JSON has texts that Python's UTF-8 has not, and they are the caller's own.
Metadata = Annotated[Mapping[str, Any], SkipValidation]
State = Annotated[JobState | str, Field(union_mode="left_to_right")]
Kind = Annotated[JobKind | str, Field(union_mode="left_to_right")]


class View(BaseModel):
    """The base of every view."""

    model_config = ConfigDict(
        frozen=True, extra="allow", use_attribute_docstrings=True, protected_namespaces=()
    )

    def as_json(self) -> dict[str, Any]:
        """What was answered, as a JSON object."""
        return self.model_dump(mode="json", exclude_unset=True)


class InvalidPart(View):
    """One place of a request that is not valid; one of the three says where."""

    pointer: str | None = None
    """In the body, as a JSON pointer."""
    parameter: str | None = None
    """In the query."""
    header: str | None = None
    detail: str = ""

    @property
    def where(self) -> str:
        """The place, in words."""
        if self.pointer is not None:
            return self.pointer or "the body"
        return self.parameter or self.header or "the request"


class Problem(View):
    """A problem document (RFC 9457): why a request was refused, or a job did not succeed."""

    code: str
    """For programs: one of those in docs/errors.md."""
    status: int
    detail: str = ""
    """What went wrong, why, and what to do."""
    title: str = ""
    retryable: bool = False
    retry_after_s: float | None = None
    request_id: str | None = None
    errors: tuple[InvalidPart, ...] = ()

    def __str__(self) -> str:
        """What went wrong, with each place, in one line."""
        said = self.detail or self.title or self.code
        # The detail may have said what is wrong with the only place.
        new = (part for part in self.errors if not (part.detail and part.detail in said))
        parts = "; ".join(f"{part.where}: {part.detail}" for part in new)
        return f"{said.rstrip('.')}: {parts}" if parts else said


class Usage(View):
    """What the call consumed, as the provider counted it."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0


class Wait(View):
    """What a waiting job waits for."""

    reason: str


class Attempt(View):
    """One attempt of a job."""

    n: int
    outcome: str
    generation: int = 1
    provider: str | None = None
    http_status: int | None = None
    queue_wait_ms: int | None = None
    provider_ms: int | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    error: Problem | None = None


class Job(View):
    """A job as it was when it was asked for."""

    id: str
    kind: Kind
    state: State
    done: bool
    """Whether the state is final."""
    generation: int
    """Grows by one each time the job is run again."""
    lane: str = "default"
    wait: Wait | None = None
    attempts: int = 0
    max_attempts: int = 0
    created_at: Moment | None = None
    queued_at: Moment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    expires_at: Moment | None = None
    not_before: Moment | None = None
    start_by: Moment | None = None
    deadline: Moment | None = None
    provider: str | None = None
    error: Problem | None = None
    """Why it did not succeed."""
    usage: Usage | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Metadata = {}
    history: tuple[Attempt, ...] | None = None
    """Its attempts, if they were asked for."""
    result: Any = None
    """Of a succeeded job; a list has none."""

    @property
    def succeeded(self) -> bool:
        """Whether it has a result."""
        return self.state == JobState.SUCCEEDED


class ItemError(View):
    """Why an item of a batch did not become a job."""

    index: int
    """Its place in the batch, from 0."""
    error: Problem


class Batch(View):
    """A batch as it was when it was asked for."""

    id: str
    done: bool
    """Whether every job has its end."""
    total: int
    """Items that were sent."""
    accepted: int
    """Items that became jobs."""
    rejected: int = 0
    """Items that did not; `errors` says why."""
    counts: Mapping[str, int] = {}
    """Jobs by their state."""
    removed: int = 0
    """Jobs that are kept no longer."""
    created_at: Moment | None = None
    errors: tuple[ItemError, ...] = ()
    metadata: Metadata = {}

    @property
    def succeeded(self) -> bool:
        """Whether every item became a job and each of them has a result."""
        return self.counts.get(JobState.SUCCEEDED, 0) == self.total


class BatchResult(View):
    """One line of a batch's results."""

    id: str
    state: State
    done: bool
    custom_id: str | None = None
    error: Problem | None = None
    usage: Usage | None = None
    result: Any = None

    @property
    def succeeded(self) -> bool:
        """Whether it has a result."""
        return self.state == JobState.SUCCEEDED


class Page(View):
    """A page of a list of jobs."""

    data: tuple[Job, ...]
    has_more: bool
    next_cursor: str | None
    """For the next page; None on the last one."""


class ReplayPreview(View):
    """What a replay would run again."""

    matched: int
    """How many jobs."""
    has_more: bool
    """Whether the filter names more than may run again at once."""
    job_ids: tuple[str, ...]
    """The first of them, the oldest first."""
