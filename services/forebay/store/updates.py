"""The filters and update pipelines of the job document: pure, so each can be read and tested alone.

Theory of operation. A job moves by single-document compare-and-set: the filter says what must be
true, the pipeline what follows, and the server does both at once. Two rules hold everywhere:

- Time is the server's, `$$NOW`, in filters and pipelines alike. No clock of ours is ever compared
  with a stored time, so a skewed pod frees no live lease.
- A pipeline would take a string that begins with `$` for a field's name. Whatever is not ours word
  for word is therefore wrapped in `$literal`.

Which states an event starts from is read off `TRANSITIONS`, never written here.
"""

from __future__ import annotations

from collections.abc import Collection

from forebay.errors import ErrorCode, IllegalTransition, JobError
from forebay.jobs import (
    TERMINAL,
    TRANSITIONS,
    Event,
    Job,
    JobKind,
    JobState,
    OnUnknown,
    ResultRef,
    sources,
    transition,
)
from forebay.store import Ending, JobRef, Route
from forebay.store.documents import (
    Document,
    attempt_document,
    error_document,
    usage_document,
)
from forebay.store.expressions import (
    NOW,
    all_of,
    any_of,
    from_now,
    has_come,
    has_passed,
    in_states,
    is_in,
    literal,
    ms,
    negated,
    not_in,
    passed,
    switch,
)
from forebay.store.suspects import suspect

Pipeline = list[Document]

MOST_HISTORY = 200
"""Attempts kept on a job, the latest. Only snoozes can bring it there: they are not counted, and a
provider closed for days would otherwise grow the document to its limit."""

FAST_CLOCK_S = 5.0
"""By how much the clock of whoever submitted a job may be ahead of the store's without any effect.
"""

CLAIMABLE = sources(Event.CLAIMED, JobState.RUNNING)
LAPSABLE = frozenset(
    state for state, steps in TRANSITIONS.items() if steps.get(Event.LEASE_LOST) in CLAIMABLE
)
"""A lapsed lease here means the job is as good as queued: a claim may take it at once."""
LEASED = frozenset(state for state, steps in TRANSITIONS.items() if Event.LEASE_LOST in steps)
WAITING = sources(Event.EXPIRED, JobState.EXPIRED) - LEASED
OF_ONE_GENERATION = (
    "not_before",
    "start_by",
    "deadline",
    "lease",
    "published_at",
    "started_at",
    "finished_at",
    "expires_at",
    "result",
    "result_ref",
    "error",
    "usage",
)
"""What a retry by hand takes off the job. `last_token` stays: the worker that ended the former
generation and did not hear the answer may still ask again, and it did end it."""
DUE_FROM = sources(Event.DUE, JobState.QUEUED)

ONE_MORE_ROUND: Document = {"$add": [{"$ifNull": ["$rounds", 0]}, 1]}
RETRYABLE = sources(Event.REPLAYED, JobState.QUEUED)
CANCELED_AT_ONCE = sources(Event.CANCEL, JobState.CANCELED)
CANCELABLE = CANCELED_AT_ONCE | sources(Event.CANCEL, JobState.CANCELING)

EXHAUSTED = JobError(
    ErrorCode.ATTEMPTS_EXHAUSTED,
    "No allowed attempt succeeded, and the last one was lost with its worker; retry the job when "
    "workers are stable.",
    retryable=True,
)
UNKNOWN_OUTCOME = JobError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The worker was lost during the call and the job forbids a second one; ask the provider "
    "whether the first took effect.",
)
CANCELED = JobError(ErrorCode.CANCELED, "The caller canceled the job.")


def claimable(ref: JobRef, token: str, *, suspects: bool = True) -> Document:
    """The filter of a claim: the job may run now, and an attempt is left.

    A token has one attempt: a claim whose answer was lost may arrive again when that is over.
    """
    waits = all_of(is_in(CLAIMABLE), any_of(not_in({JobState.RETRYING}), has_come("not_before")))
    lapsed = all_of(
        is_in(LAPSABLE),
        has_passed("lease.until"),
        {"$eq": ["$on_unknown", OnUnknown.RETRY.value]},
    )
    return {
        "_id": ref.id,
        "generation": ref.generation,
        **in_states(CLAIMABLE | LAPSABLE),
        "last_token": {"$ne": token},
        "$expr": all_of(
            any_of(waits, lapsed),
            {"$lt": ["$attempts", "$max_attempts"]},
            negated(_out_of_time()),
            *([] if suspects else [negated(suspect())]),
        ),
    }


def claim(token: str, worker: str, lease_s: float) -> Pipeline:
    """Count the attempt and give a fresh lease; an attempt that was lost is written down first."""
    return [
        {
            "$set": {
                "history": {"$cond": [is_in(LEASED), _with_attempt(_LOST), "$history"]},
                "attempts": {"$add": ["$attempts", 1]},
                "rounds": ONE_MORE_ROUND,
                "state": JobState.RUNNING.value,
                "lease": {
                    "token": literal(token),
                    "worker": literal(worker),
                    "until": from_now(lease_s),
                },
                "started_at": NOW,
            }
        },
        {"$unset": ["not_before"]},
    ]


def postponable(ref: JobRef) -> Document:
    """The filter of a job that was refused as a suspect and still waits for a claim."""
    states = in_states(sources(Event.POSTPONED, JobState.RETRYING))
    return {"_id": ref.id, "generation": ref.generation, **states}


def postpone(wait_s: float) -> Pipeline:
    """Let it wait; no attempt is counted, and no record is written."""
    return [
        {"$set": {"state": JobState.RETRYING.value, "not_before": from_now(wait_s)}},
        {"$unset": ["published_at"]},
    ]


def held(job_id: str, token: str, states: Collection[JobState] = LEASED) -> Document:
    """The filter of whoever holds the lease."""
    return {"_id": job_id, "lease.token": token, **in_states(states)}


def renew(lease_s: float) -> Pipeline:
    """Extend the lease from the server's now."""
    return [{"$set": {"lease.until": from_now(lease_s)}}]


def endable(job_id: str, token: str, ending: Ending) -> Document:
    """The filter of an ending: the token holds, and the table allows the event."""
    condition = held(job_id, token, sources(ending.event, destination(ending.event)))
    if spends_last_attempt(ending):
        condition["$expr"] = {"$lt": ["$attempts", "$max_attempts"]}
    return condition


def spends_last_attempt(ending: Ending) -> bool:
    """Whether the ending needs another attempt to be left: a wait for one that never comes."""
    return ending.event is Event.RETRY_LATER and not ending.uncount


def check_endable(job: Job, ending: Ending) -> None:
    """Raise `IllegalTransition` when the job's state does not allow the ending."""
    transition(job.state, ending.event)
    if spends_last_attempt(ending) and job.attempts >= job.max_attempts:
        raise IllegalTransition(f"{job.id} has no attempt left to wait for")


def destination(event: Event) -> JobState:
    """The state an ending leads to; each leads to one only."""
    (target,) = {steps[event] for steps in TRANSITIONS.values() if event in steps}
    return target


def end(token: str, ending: Ending, result_ref: ResultRef | None = None) -> Pipeline:
    """End the attempt: the new state, the record, the result or its pointer, all at once."""
    target = destination(ending.event)
    fields: Document = {
        "state": target.value,
        "last_token": literal(token),
        "history": _with_attempt(literal(attempt_document(ending.attempt))),
        "dead_lettered": ending.dead_lettered,
    }
    gone = ["lease"] if target.terminal else ["lease", "published_at"]
    if ending.uncount:
        fields["attempts"] = {"$max": [{"$subtract": ["$attempts", 1]}, 0]}
    if ending.usage is not None:
        fields["usage"] = literal(usage_document(ending.usage))
    if ending.error is not None and target is not JobState.SUCCEEDED:
        fields["error"] = literal(error_document(ending.error))
    if target.terminal:
        fields |= _TERMINAL
    elif target is JobState.QUEUED:
        fields["queued_at"] = NOW
    else:
        fields["not_before"] = from_now(ending.wait_s)
    if target is JobState.SUCCEEDED:
        gone += ["error", "result" if result_ref else "result_ref"]
        fields |= _result_fields(ending.result, result_ref)
    return [{"$set": fields}, {"$unset": gone}, *([_TO_TELL] if target.terminal else [])]


def due() -> Document:
    """The filter of what waits for a time that has come."""
    return {**in_states(DUE_FROM), **passed("not_before")}


def queue(turn: str) -> Pipeline:
    """Queue it, under the mark of the loop's turn that did so."""
    return [
        {"$set": {"state": JobState.QUEUED.value, "queued_at": NOW, "turn": literal(turn)}},
        {"$unset": ["not_before", "published_at"]},
    ]


def unpublished(older_than_s: float, without: Collection[Route] = ()) -> Document:
    """The filter of queued jobs without a confirmed message, of all routes but some."""
    age = {"$abs": {"$subtract": [NOW, "$queued_at"]}}
    routes = [{"kind": kind.value, "lane": lane.value} for kind, lane in without]
    return {
        "state": JobState.QUEUED.value,
        "published_at": None,
        "$expr": {"$gte": [age, ms(older_than_s)]},
        **({"$nor": routes} if routes else {}),
    }


def awaiting_confirm(ref: JobRef) -> Document:
    """The filter of the very stay in `queued` that a message was published for."""
    stay = {} if ref.queued_at is None else {"queued_at": ref.queued_at}
    return {
        "_id": ref.id,
        "generation": ref.generation,
        "attempts": ref.attempts,
        "state": JobState.QUEUED.value,
        **stay,
    }


def published() -> Pipeline:
    """The broker confirmed it."""
    return [{"$set": {"published_at": NOW}}]


def lapsed() -> Document:
    """The filter of leases that ran out, by the server's clock alone, never by a job's age."""
    return {**in_states(LEASED), **passed("lease.until")}


def rescue(turn: str) -> Pipeline:
    """Take the job back: queued again, or at its end; the lost attempt is written down."""
    spent = {"$gte": ["$attempts", "$max_attempts"]}
    unrepeatable = {"$eq": ["$on_unknown", OnUnknown.FAIL.value]}
    asked_to_stop = negated(is_in(LAPSABLE))
    again = negated(any_of(spent, unrepeatable, asked_to_stop))
    errors = [
        (asked_to_stop, CANCELED, JobState.CANCELED),
        (unrepeatable, UNKNOWN_OUTCOME, JobState.FAILED),  # never a dead letter: see `judge`
        (spent, EXHAUSTED, JobState.FAILED),
    ]
    return [
        {
            "$set": {
                "state": switch([(c, s.value) for c, _, s in errors], JobState.QUEUED.value),
                "error": switch([(c, literal(error_document(e))) for c, e, _ in errors], "$error"),
                "dead_lettered": all_of(spent, negated(any_of(unrepeatable, asked_to_stop))),
                "history": _with_attempt(_LOST),
                "queued_at": {"$cond": [again, NOW, "$queued_at"]},
                "turn": literal(turn),
                **{n: {"$cond": [again, "$$REMOVE", v]} for n, v in _TERMINAL.items()},
            }
        },
        {"$unset": ["lease", "published_at"]},
        _TO_TELL,
    ]


def overdue() -> Document:
    """The filter of waiting jobs that ran out of time; each branch has its own index."""
    states = in_states(WAITING)
    return {
        "$or": [
            {**states, "attempts": 0, **passed("start_by")},
            {**states, **passed("deadline")},
        ]
    }


def expire(error: JobError) -> Pipeline:
    """End it, saying which limit passed."""
    fields = {"state": JobState.EXPIRED.value, "error": literal(error_document(error))}
    return [{"$set": {**fields, **_TERMINAL}}, {"$unset": ["not_before"]}, _TO_TELL]


def of_tenant(tenant: str, job_id: str, states: Collection[JobState]) -> Document:
    """The filter of a tenant's job, while it is in one of these states."""
    return {"_id": job_id, "tenant": tenant, **in_states(states)}


def cancel() -> Pipeline:
    """What waits is over at once; a running call's worker is told at its next look."""
    at_once = is_in(CANCELED_AT_ONCE)
    ended = {**_TERMINAL, "error": literal(error_document(CANCELED))}
    states = [(at_once, JobState.CANCELED.value)]
    return [
        {
            "$set": {
                "state": switch(states, JobState.CANCELING.value),
                **{n: {"$cond": [at_once, value, f"${n}"]} for n, value in ended.items()},
            }
        },
        {"$unset": ["not_before"]},
        _TO_TELL,
    ]


def untold(older_than_s: float) -> Document:
    """The filter of jobs with an end that was due to be told that long ago."""
    bound = {"$subtract": [NOW, ms(older_than_s)]}
    first = {"$arrayElemAt": ["$untold.at", 0]}
    return {"untold.at": {"$type": "date"}, "$expr": {"$lte": [first, bound]}}


def deliveries_of(tenant: str, endpoint_tag: str) -> Document:
    """The filter of an endpoint's deliveries that wait."""
    states = in_states(CANCELED_AT_ONCE)
    return {"tenant": tenant, "kind": JobKind.WEBHOOK.value, "tags": endpoint_tag, **states}


def retry_together(turn: str) -> Pipeline:
    """`retry`, under the mark of who did so."""
    return [*retry(), {"$set": {"turn": literal(turn)}}]


def retry() -> Pipeline:
    """Begin the next generation: queued now, with all its attempts, without what the last left."""
    return [
        {
            "$set": {
                "state": JobState.QUEUED.value,
                "generation": {"$add": ["$generation", 1]},
                "attempts": 0,
                "rounds": ONE_MORE_ROUND,
                "queued_at": NOW,
                "dead_lettered": False,
            }
        },
        {"$unset": [*OF_ONE_GENERATION]},
    ]


_TERMINAL: Document = {
    "finished_at": NOW,
    "expires_at": {"$add": [NOW, {"$multiply": ["$result_ttl_s", 1000]}]},
}

_END: Document = {"generation": "$generation", "state": "$state", "at": "$finished_at"}
_TO_TELL: Document = {
    "$set": {
        "untold": {
            "$cond": [
                all_of(is_in(TERMINAL), {"$eq": ["$notifies", True]}),
                {"$concatArrays": [{"$ifNull": ["$untold", []]}, [_END]]},
                "$untold",
            ]
        }
    }
}
"""The last step of every write that can end a job: what it left is read off the job itself."""

_LOST: Document = {
    "n": "$attempts",
    "generation": "$generation",
    "outcome": "lease_lost",
    "worker": "$lease.worker",
    "started_at": "$started_at",
    "finished_at": NOW,
    "queue_wait_ms": {
        "$max": [0, {"$subtract": ["$started_at", {"$ifNull": ["$queued_at", "$started_at"]}]}]
    },
    "provider_ms": 0,
}
"""The record of an attempt that nobody ended: what its worker did is not known."""


def _result_fields(result: str | None, ref: ResultRef | None) -> Document:
    if ref is None:
        return {"result": literal(result)}
    pointer = {"token": ref.token, "chunks": ref.chunks, "bytes": ref.bytes}
    return {"result_ref": literal(pointer)}


def _with_attempt(record: Document) -> Document:
    return {"$slice": [{"$concatArrays": ["$history", [record]]}, -MOST_HISTORY]}


def _out_of_time() -> Document:
    never_ran = {"$eq": ["$attempts", 0]}
    return any_of(all_of(never_ran, has_passed("start_by")), has_passed("deadline"))
