"""Where jobs live: the `JobStore` protocol and the values it speaks in.

MongoDB holds the truth and the broker is disposable, so whatever a guarantee rests on is a
single-document compare-and-set behind one of these methods. `mongo/` is the real one, `memory.py`
the shipped fake; tests/contract runs the same suite over both.

Every method raises `StoreUnavailable` when the store does not answer in time; a write may then have
happened or not, and every write here but a `retry` without a generation is safe to
repeat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from forebay.batches import BatchJobs
from forebay.errors import JobError
from forebay.jobs import Attempt, Event, Job, JobKind, JobState, Lane, Usage
from forebay.pace import Route as Route


@dataclass(frozen=True, slots=True)
class JobRef:
    """What a message names: a job, its generation, and the queue it belongs to."""

    id: str
    generation: int
    kind: JobKind
    lane: Lane
    attempts: int = 0
    traceparent: str | None = None
    queued_at: datetime | None = None
    """Which stay in `queued` is meant; None where only the message is known."""

    @classmethod
    def of(cls, job: Job) -> JobRef:
        """The reference of a job as it is now."""
        return cls(
            id=job.id,
            generation=job.generation,
            kind=job.kind,
            lane=job.lane,
            attempts=job.attempts,
            traceparent=job.traceparent,
            queued_at=job.queued_at,
        )


@dataclass(frozen=True, slots=True)
class Inserted:
    """The job is durable: acknowledged by a majority, in the journal."""


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """The tenant used this idempotency key before; nothing was inserted for this job."""


InsertResult = Inserted | KeyTaken


class Refusal(StrEnum):
    """Why a claim was refused. Each is a reason to settle the message: nothing is lost by it."""

    UNKNOWN = "unknown"
    """No such job (removed after its retention, or never stored)."""
    STALE = "stale"
    """A message of another generation."""
    BUSY = "busy"
    """Another worker holds a live lease."""
    FINISHED = "finished"
    """The job is terminal, or about to be (canceling)."""
    NOT_DUE = "not_due"
    """It waits for its `not_before`; the relay publishes it then."""
    EXHAUSTED = "exhausted"
    """No attempt is left, or the lease ran out of a call that must not be repeated; `rescue` fails
    it."""
    EXPIRED = "expired"
    """`start_by` or `deadline` passed; `expire` ends it."""
    SUSPECT = "suspect"
    """It may be what kills its workers, and the claim was not for such (`store/suspects.py`)."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The caller may work on the job under `job.lease`; the attempt is already counted."""

    job: Job


@dataclass(frozen=True, slots=True)
class Refused:
    """The caller may not work on the job."""

    reason: Refusal
    dead_lettered: bool = field(default=False, compare=False, repr=False)
    """With FINISHED: the job failed because its attempts ran out."""
    error: JobError | None = field(default=None, compare=False, repr=False)
    """With FINISHED: what the job says, if it ended without a result."""


class Renewal(StrEnum):
    """What a renewal found."""

    HELD = "held"
    LOST = "lost"
    """The lease is gone: stop the call, its result would not be written."""
    CANCELING = "canceling"
    """The lease is held, and the caller of the job wants it stopped."""


ENDINGS = frozenset(
    {
        Event.SUCCEEDED,
        Event.FAILED,
        Event.RETRY_LATER,
        Event.SNOOZED,
        Event.HANDED_BACK,
        Event.EXPIRED,
        Event.CANCELED,
    }
)
"""The events that end an attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ends; applied under the lease's token, in one update.

    `event` is one of `ENDINGS`. What is not terminal is unpublished afterwards, HANDED_BACK too:
    its message goes back to the broker only if the channel it came by still lives.
    """

    event: Event
    attempt: Attempt
    result: str | None = None
    """JSON text, with SUCCEEDED only."""
    error: JobError | None = None
    usage: Usage | None = None
    wait_s: float = 0.0
    """With RETRY_LATER and SNOOZED: `not_before` is the store's now plus this."""
    uncount: bool = False
    """The call was not made: give the attempt back."""
    dead_lettered: bool = False
    """With FAILED: because the attempts ran out."""

    def __post_init__(self) -> None:
        """A job has a result if and only if it succeeded; raises `ValueError`."""
        if self.event not in ENDINGS:
            raise ValueError(f"'{self.event}' does not end an attempt")
        if (self.event is Event.SUCCEEDED) != (self.result is not None):
            raise ValueError("a result belongs to 'succeeded', and to it alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs to list. All filters must hold; of one with several values, any. Empty: all."""

    tenant: str
    states: frozenset[JobState] = frozenset()
    kinds: frozenset[JobKind] = frozenset()
    tags: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    """Only jobs for which one of these was called."""
    errors: frozenset[str] = frozenset()
    """Only jobs whose `error` has one of these codes."""
    batch: BatchJobs | None = None
    """Only the jobs of this batch."""
    with_results: bool = False
    """Inline results come along."""
    created_from: datetime | None = None
    """Only jobs created then or later, to the millisecond."""
    created_before: datetime | None = None
    limit: int = 50
    dead_lettered: bool | None = None
    """Only jobs whose attempts ran out (True), or only the others (False)."""
    oldest_first: bool = False
    beyond: str | None = None
    """Only jobs that come after this id in the order: the cursor (ids sort by time)."""
    deliveries: bool = False
    """Webhook deliveries, instead of callers' jobs: a list has never both."""
    all_tags: frozenset[str] = frozenset()
    """Of deliveries, only those with all of these tags."""


@dataclass(frozen=True, slots=True)
class Rescue:
    """A job whose lease ran out, and where it went."""

    ref: JobRef
    state: JobState
    dead_lettered: bool = False
    """Failed because its attempts ran out."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs of a kind and lane are in a state, and the earliest `queued_at` of them."""

    kind: JobKind
    lane: Lane
    state: JobState
    count: int
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one step of the walk over the large results did."""

    removed: int
    """Chunks that no job points to."""
    reached: str | None
    """Where the next step goes on; None: the end was reached, it begins anew."""


class JobStore(Protocol):
    """The store of jobs. Limits of each promise are in the methods' docstrings."""

    async def prepare(self) -> None:
        """Create the indexes and prove the durability; raises `StoreUnfit`. Safe to repeat."""

    async def ping(self) -> None:
        """Return when the store can accept a write now."""

    async def insert(self, jobs: Sequence[Job]) -> Sequence[InsertResult]:
        """Store new jobs in one round trip, majority and journal; one result per job, in order.

        A repeat with the same job ids is `Inserted` again: an unknown answer can be repeated.
        Raises `Unstorable` when one of them cannot be written; others may then be stored or not.
        """

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, a large result left out; None for another tenant's too. Reads its own writes."""

    async def result(self, job: Job) -> str | None:
        """The JSON text of a succeeded job's result, inline or stored beside it.

        None when there is none, or its retention is over.
        """

    async def find_by_key(self, tenant: str, key: str) -> Job | None:
        """The job of this tenant that used this idempotency key."""

    async def list(self, query: JobQuery) -> Sequence[Job]:
        """At most `query.limit` jobs in the order of the query, without input."""

    async def look_up(self, job_ids: Collection[str]) -> Sequence[Job]:
        """These jobs, whatever their tenant, in no order; what is not there is left out.

        For an auditor, at most a few thousand at once. Without input; of an inline result it says
        only that there is one: `result` is then an empty text, which is never JSON. `result_ref` is
        there only while every piece of the large result is.
        """

    async def finished(self, job_ids: Collection[str]) -> frozenset[str]:
        """Which of these jobs are terminal (or gone): one query for all waiting callers."""

    async def claim(
        self,
        ref: JobRef,
        worker: str,
        lease_s: float,
        token: str | None = None,
        *,
        suspects: bool = True,
    ) -> Claimed | Refused:
        """Take the job if it may run now: count the attempt, give a fresh lease.

        `token` becomes the lease's. Who makes it beforehand can repeat a claim after an unknown
        answer: it finds its own lease and counts nothing twice. Left out, it is made here.
        Without `suspects` a job that may be what kills its workers is refused and left as it is.
        """

    async def postpone(self, ref: JobRef, wait_s: float) -> None:
        """Let a queued job that was refused as a suspect wait; nothing is counted or recorded.

        A job that is not queued any more is left alone.
        """

    async def renew(self, job_id: str, token: str, lease_s: float) -> Renewal:
        """Extend the lease from the store's now."""

    async def finish(self, job_id: str, token: str, ending: Ending) -> Job | None:
        """End the attempt if the token still holds; the job after it, or None: nothing was written.

        A repeat of the same ending under the same token returns the job too: an unknown answer can
        be repeated. Raises `IllegalTransition` when the token holds but the job's state does not
        allow the event (RETRY_LATER when canceling, or without an attempt left), and `Unstorable`.
        """

    async def mark_published(self, refs: Sequence[JobRef]) -> None:
        """The broker confirmed a message for each of these queued jobs.

        A job that is not in that same stay in `queued` any more is left alone, so that a late
        confirm never hides a job from the relay.
        """

    async def unpublished(
        self, older_than_s: float, limit: int, without: Collection[Route] = ()
    ) -> Sequence[JobRef]:
        """Queued jobs without a confirmed message, queued at least that long ago, oldest first.

        `queued_at` of a new job is its submitter's time: one as far in the future is taken too, or
        a fast clock would hide its jobs.
        """

    async def unclaimed(
        self, route: Route, older_than_s: float, limit: int, after: datetime | None = None
    ) -> Sequence[JobRef]:
        """Queued jobs of a route whose message was confirmed at least that long ago, oldest first.

        With `after` only those queued then or later: it is the last `queued_at` of the page before.
        Limit: a new job whose submitter's clock is ahead is taken that much later.
        """

    async def confirmed(self, route: Route, limit: int) -> int:
        """How many queued jobs of a route have a confirmed message; counted up to `limit`.

        Limit: with more than 10,000 unpublished jobs it counts only what was queued before these.
        """

    async def newest_running(self, route: Route) -> float | None:
        """Seconds since the message of a running job can have been published at the earliest.

        Of the newest one of the route: whichever message it runs by was published after the job was
        queued. Only of jobs that were confirmed and run for the first time; None when none does.
        """

    async def queue_due(self, limit: int) -> Sequence[JobRef]:
        """Queue scheduled and retrying jobs whose `not_before` has come; the ones to publish.

        Two callers at once never get the same job. One whose caller dies is then `unpublished`.
        """

    async def rescue(self, limit: int) -> Sequence[Rescue]:
        """Take back jobs whose lease ran out, by the store's clock.

        Queued again; failed when no attempt is left or `on_unknown` says so; canceled when that
        was asked.
        """

    async def expire(self, limit: int) -> int:
        """Expire waiting jobs whose `start_by` or `deadline` passed; how many."""

    async def backlog(self) -> Sequence[Backlog]:
        """Counts by kind, lane and state of all jobs that are not terminal."""

    async def retry(self, tenant: str, job_id: str, generation: int | None = None) -> Job | None:
        """Queue a terminal job again by hand, under the next generation; None when there is none.

        All its attempts are there again, and the history is kept. What belonged to the end goes:
        result, error, usage, the date of its removal. So do `start_by` and `deadline`, which were
        promises about the first time and may have passed: a retried job has no time limit. A
        message or a lease of an earlier generation means nothing any more. The job is unpublished
        afterwards.

        With `generation` only if the job is still in it, which makes a repeat safe. Without it,
        not to be repeated blindly after `StoreUnavailable`: it may have been done, and the job may
        have ended again; its generation says so.

        Raises `IllegalTransition` when the job is not terminal, and `OtherGeneration`, which is one
        too, when it is in another generation than the one asked for.
        """

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """Stop a job: the job after it; None when there is none.

        What waits is canceled at once. A running one is canceling: its worker is told within
        seconds, and what it writes then is its end. One that is canceling or terminal already is
        left as it is, so a repeat is safe. Raises `IllegalTransition` when somebody else runs it
        again at this very moment.
        """

    async def tally(self, tenant: str, jobs: BatchJobs) -> Mapping[JobState, int]:
        """How many of these jobs are in each state; what is gone is in none."""

    async def count_open(self, key_id: str, limit: int) -> int:
        """How many jobs that were submitted with an API key are not terminal, up to `limit`."""

    async def cancel_many(self, tenant: str, job_ids: Collection[str]) -> int:
        """`cancel` of at most some hundreds of jobs at once; how many it changed."""

    async def retry_many(self, tenant: str, job_ids: Collection[str]) -> Sequence[JobRef]:
        """`retry` of at most some hundreds of jobs at once; those that were terminal.

        Two callers at once never get the same job. Repeated after an unknown answer it leaves those
        alone that are not terminal any more.
        """

    async def forget(self, tenant: str, job_id: str) -> bool:
        """Remove a terminal job with all that it has; whether there was one.

        Its idempotency key is free again. Raises `IllegalTransition` when it is not terminal.
        """

    async def asked_to_stop(self, job_ids: Collection[str]) -> frozenset[str]:
        """Which of these jobs are canceling: one query for all calls of a worker."""

    async def untold(self, older_than_s: float, limit: int) -> Sequence[Job]:
        """Jobs with an end that was to be told at least that long ago; without input and result."""

    async def told(self, job_id: str, generation: int) -> None:
        """The deliveries of a job's end in that generation are stored."""

    async def cancel_deliveries(self, tenant: str, endpoint_tag: str) -> int:
        """`cancel` of all the deliveries of an endpoint that wait; how many.

        One that is on its way at this moment ends as it ends.
        """

    async def prune(self, after: str | None, limit: int) -> Pruned:
        """Look at the next `limit` chunks of large results; remove those that nobody can want.

        A chunk is wanted while its job points to its token, or is leased under it. One whose job is
        not there is left alone: its own retention removes it, and a restore may be under way.
        """

    async def close(self) -> None:
        """Give the connections back."""
