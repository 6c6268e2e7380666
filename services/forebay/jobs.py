"""The life of a job: its states, the one table of transitions, and the job as a frozen value.

Theory of operation. A job moves only by an `Event`, and `TRANSITIONS` says where each event leads
from each state. Nothing else knows: the store derives its filters from the table (`sources`), the
diagram in docs/lifecycle.md is drawn from it. An event the table does not name raises
`IllegalTransition` and changes nothing. This file does no I/O: time and ids come as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from forebay.errors import ErrorCode, IllegalTransition, JobError


class JobKind(StrEnum):
    """The type of external API a job calls; each has its own queues and its own workers."""

    SEARCH = "search"
    CRAWL = "crawl"
    LLM = "llm"
    WEBHOOK = "webhook"
    """A delivery to a caller's own API; ours alone to submit, and shown as a delivery only."""


CallerKind = Literal[JobKind.SEARCH, JobKind.CRAWL, JobKind.LLM]
"""The kinds that a caller can submit."""
CALLER_KINDS: frozenset[JobKind] = frozenset(get_args(CallerKind))
DELIVERY_PREFIX = "msg_"
"""Begins the id of a webhook job, which no path of a caller's job can name. Ids of callers' jobs
sort before it."""


class Lane(StrEnum):
    """A job's priority. Lanes are queues of their own: the broker's priorities are not used."""

    INTERACTIVE = "interactive"
    """Somebody is waiting for it: taken first."""
    DEFAULT = "default"
    BULK = "bulk"
    """Taken when nothing else waits, but always given a small share so that it never starves."""


class JobState(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    """Waits in the store for its `not_before`. A crash leaves it there; the relay finds it."""
    QUEUED = "queued"
    """Can run now; a message for it is in the broker or will be published by the relay."""
    RUNNING = "running"
    """A worker holds a lease and calls the provider. A crash lets the lease run out; the rescuer
    queues the job again, or fails it when its attempts are used up."""
    RETRYING = "retrying"
    """An attempt failed in a way that can pass, or could not begin; waits in the store for its
    `not_before`."""
    CANCELING = "canceling"
    """The caller asked to stop during a call; the worker is told at its next renewal."""
    SUCCEEDED = "succeeded"
    """Terminal; a result is stored."""
    FAILED = "failed"
    """Terminal; `error` says why and whose fault it was."""
    CANCELED = "canceled"
    """Terminal; the caller stopped it."""
    EXPIRED = "expired"
    """Terminal; `start_by` or `deadline` passed first."""

    @property
    def terminal(self) -> bool:
        """Whether the state is final."""
        return self in TERMINAL


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})


class Event(StrEnum):
    """What can happen to a job."""

    DUE = "due"
    """`not_before` has come."""
    CLAIMED = "claimed"
    """A worker took it: a lease is given and an attempt is counted."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It cannot succeed, or its attempts are used up."""
    RETRY_LATER = "retry later"
    """The attempt failed in a way that can pass."""
    SNOOZED = "snoozed"
    """No call was made (the provider is closed for now); the attempt is not counted."""
    POSTPONED = "postponed"
    """Not claimed: it may be what kills its workers, and must not run beside another such job."""
    HANDED_BACK = "handed back"
    """The worker stops before the job is done; its message goes back to the queue."""
    LEASE_LOST = "lease lost"
    """The lease ran out: the worker is dead, frozen or cut off."""
    CANCEL = "cancel"
    """The caller asked to stop."""
    CANCELED = "canceled"
    """The worker stopped its call."""
    EXPIRED = "expired"
    """`start_by` or `deadline` passed."""
    REPLAYED = "replayed"
    """Asked to run again by hand, under a new generation."""


_WAITING_EXITS = {Event.CANCEL: JobState.CANCELED, Event.EXPIRED: JobState.EXPIRED}
_AGAIN = {Event.REPLAYED: JobState.QUEUED}

TRANSITIONS: Mapping[JobState, Mapping[Event, JobState]] = MappingProxyType(
    {
        JobState.SCHEDULED: {Event.DUE: JobState.QUEUED, **_WAITING_EXITS},
        JobState.QUEUED: {
            Event.CLAIMED: JobState.RUNNING,
            Event.POSTPONED: JobState.RETRYING,
            **_WAITING_EXITS,
        },
        JobState.RUNNING: {
            Event.SUCCEEDED: JobState.SUCCEEDED,
            Event.FAILED: JobState.FAILED,
            Event.RETRY_LATER: JobState.RETRYING,
            Event.SNOOZED: JobState.RETRYING,
            Event.HANDED_BACK: JobState.QUEUED,
            Event.LEASE_LOST: JobState.QUEUED,
            Event.CANCEL: JobState.CANCELING,
            Event.EXPIRED: JobState.EXPIRED,
        },
        JobState.RETRYING: {
            Event.DUE: JobState.QUEUED,
            Event.CLAIMED: JobState.RUNNING,
            **_WAITING_EXITS,
        },
        JobState.CANCELING: {
            Event.SUCCEEDED: JobState.SUCCEEDED,
            Event.FAILED: JobState.FAILED,
            Event.CANCELED: JobState.CANCELED,
            Event.LEASE_LOST: JobState.CANCELED,
        },
        JobState.SUCCEEDED: _AGAIN,
        JobState.FAILED: _AGAIN,
        JobState.CANCELED: _AGAIN,
        JobState.EXPIRED: _AGAIN,
    }
)


def transition(state: JobState, event: Event) -> JobState:
    """The state that follows; raises `IllegalTransition` when the table has no such step."""
    target = TRANSITIONS[state].get(event)
    if target is None:
        allowed = ", ".join(sorted(TRANSITIONS[state])) or "nothing"
        raise IllegalTransition(f"a {state} job cannot be '{event}'; it allows: {allowed}")
    return target


def sources(event: Event, target: JobState) -> frozenset[JobState]:
    """The states from which `event` leads to `target`: the filter of a compare-and-set."""
    return frozenset(state for state, steps in TRANSITIONS.items() if steps.get(event) is target)


class OnUnknown(StrEnum):
    """What to do when a worker died during the call, so that nobody knows what the provider did."""

    RETRY = "retry"
    """Call again (the provider may have been called for nothing)."""
    FAIL = "fail"
    """Fail with `outcome_unknown`, for calls that must not be repeated."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job until `until`, by the store's clock."""

    token: str
    worker: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The caller's key and the fingerprint of the body it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where a job's caller wants to hear of its end, besides the tenant's endpoints."""

    url: str
    events: tuple[str, ...] = ()
    """Empty: whatever the end."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """An end of a job that is still to be told: all that its deliveries say of it."""

    generation: int
    state: JobState
    at: datetime


@dataclass(frozen=True, slots=True)
class ProviderPreference:
    """Which providers to try, in order; empty means the worker's default."""

    order: tuple[str, ...] = ()
    allow_fallbacks: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call consumed, as the provider counted it."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 1


@dataclass(frozen=True, slots=True)
class ResultRef:
    """Where a result too large for the job's own record is: beside it, in chunks."""

    token: str
    """The token of the attempt that wrote it."""
    chunks: int
    bytes: int
    """Its size as UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The record of one attempt, written in the same update that ends it."""

    n: int
    generation: int
    outcome: str
    """The value of the `Event` that ended it, with `_` for spaces."""
    worker: str
    started_at: datetime
    finished_at: datetime
    queue_wait_ms: int = 0
    """From `queued_at` to the claim."""
    provider_ms: int = 0
    """From the start to the end of the handler's call."""
    provider: str | None = None
    http_status: int | None = None
    provider_request_id: str | None = None
    error: JobError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as it is in the store at one moment. Change it with `evolve`.

    `input`, `result` and `metadata` are JSON text: the store never looks into them, so nothing a
    caller writes (dotted keys, `$ne`, NUL, huge integers) can mean anything to the database.
    """

    id: str
    """`job_` and the hex of a UUIDv7: unguessable enough, and sorted by time of creation."""
    tenant: str
    kind: JobKind
    lane: Lane
    state: JobState
    input: str
    """The validated request, JSON text."""
    created_at: datetime
    max_attempts: int
    generation: int = 1
    """Counts replays by hand; a message of an older generation is ignored."""
    attempts: int = 0
    """Attempts of this generation, counted at the claim: before the call, never after."""
    rounds: int = 0
    """Claims and replays by hand so far, of all generations: the order of what callers follow."""
    on_unknown: OnUnknown = OnUnknown.RETRY
    provider: ProviderPreference = ProviderPreference()
    not_before: datetime | None = None
    """Set while scheduled or retrying: when it is due."""
    start_by: datetime | None = None
    """Not started by then: expired."""
    deadline: datetime | None = None
    """Not finished by then: expired."""
    result_ttl_s: int = 86_400
    """How long a terminal job is kept, in seconds."""
    lease: Lease | None = None
    """Set while running or canceling."""
    published_at: datetime | None = None
    """When the broker confirmed the message of the present `queued`; None: the relay's work."""
    idempotency: Idempotency | None = None
    batch_id: str | None = None
    """The batch it was submitted in."""
    custom_id: str | None = None
    """The caller's own name for it in that batch."""
    key_id: str | None = None
    """The API key it was submitted with; None in open mode."""
    webhook: WebhookTarget | None = None
    notifies: bool = False
    """Whether anybody is to hear of its end by webhook, as it was when the job was accepted."""
    untold: tuple[JobEnd, ...] = ()
    """With `notifies`: ends without deliveries yet, left by the write that ended the job. A retry
    by hand leaves them there; a crash does too, and the notifier finds them."""
    tags: tuple[str, ...] = ()
    metadata: str = "{}"
    """The caller's own object, JSON text, given back verbatim."""
    traceparent: str | None = None
    """W3C trace context of the request that submitted the job."""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    """When the present or last attempt was claimed."""
    finished_at: datetime | None = None
    """Set when terminal."""
    expires_at: datetime | None = None
    """Set when terminal: the record is removed then."""
    history: tuple[Attempt, ...] = ()
    result: str | None = None
    """JSON text; set if and only if the job succeeded and the result is small enough to be inline.
    A larger one is stored beside the job; `JobStore.result` reads either."""
    result_ref: ResultRef | None = None
    """Set instead of `result` when the job succeeded with a larger one."""
    error: JobError | None = None
    """Set when failed, canceled or expired; before that, what the last failed attempt said."""
    dead_lettered: bool = False
    """Failed because its attempts ran out."""
    usage: Usage | None = None

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)

    @property
    def done(self) -> bool:
        """Whether the job is terminal."""
        return self.state.terminal


def first_state(not_before: datetime | None, now: datetime) -> JobState:
    """Where a new job begins: it waits only if its time is still to come."""
    if not_before is not None and not_before > now:
        return JobState.SCHEDULED
    return JobState.QUEUED


def expiry_error(job: Job) -> JobError:
    """What an expired job tells its caller."""
    start_by = job.start_by if job.attempts == 0 else None
    came_first = start_by is not None and (job.deadline is None or start_by <= job.deadline)
    limit = "start_by" if came_first else "deadline"
    return JobError(
        ErrorCode.DEADLINE_EXCEEDED,
        f"The job's `{limit}` passed before it could finish; submit it again with a later one.",
    )
