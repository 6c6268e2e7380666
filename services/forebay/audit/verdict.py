"""What of a ledger, the store's jobs and the providers' calls does not fit together: pure.

    audit = judge(read_ledger(path), seen, calls, now)
    audit.held    # nothing is broken, and nothing is still open

Limits: a job whose retention may be over cannot be called lost, and counts as forgotten. Without a
log of calls nothing is said about calls. The numbers of attempts begin anew when a job is replayed
by hand, so the calls of all its generations are judged together, against all that were allowed.
A crawl is many requests: each of its attempts may ask for a page once. A crawler API is asked for
all pages under one path, so of such crawls only the number of attempts is judged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from forebay.audit.calls import ProviderCall
from forebay.audit.ledger import Answer, Meaning
from forebay.jobs import Job, JobKind, JobState

DEFAULT_TTL_S = 86_400
"""How long a terminal job is kept whose caller did not say, in seconds."""
NEVER_CALLED = frozenset({JobState.CANCELED, JobState.EXPIRED})
_CRAWLER_API = "/scrape"
"""How the path ends under which a crawler API is asked for every page."""


class Broken(StrEnum):
    """What can be found broken; the value is how it is told."""

    LOST = "lost"
    """Answered 202, and not in the store although its retention is not over."""
    NOT_FOUND = "answered 404 after its 202"
    DUPLICATES = "keys with two jobs"
    """One `Idempotency-Key`, two ids."""
    TOLD_OTHERWISE = "ended otherwise than told"
    """A caller was told a terminal state, and the job is in another one."""
    OVER_LIMIT = "called over their limit"
    """More attempts, or more calls at the provider, than `max_attempts`."""
    RESULT_WITHOUT_SUCCESS = "result without success"
    SUCCESS_WITHOUT_RESULT = "success without result"
    UNTOLD = "webhooks not made"
    """The job has its end, somebody is to hear of it, and its deliveries are not stored."""
    CALLED_TWICE = "attempts that called twice"
    """Here and below: judged with the providers' log only."""
    SUCCESS_WITHOUT_CALL = "success without a call"
    """No call, or none in the attempt that succeeded."""
    CALLED_UNSTARTED = "called without a start"
    """Canceled or expired before any attempt, and a provider was called all the same."""
    CALLED_UNCOUNTED = "called without being counted"
    """An attempt called that the job does not count: an attempt is counted before its call, and
    given back only when there was none."""


@dataclass(frozen=True, slots=True)
class Offender:
    """A job or a key that breaks a promise."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store holds of one job."""

    id: str
    kind: JobKind
    state: JobState
    generation: int
    attempts: int
    max_attempts: int
    has_result: bool
    untold: bool = False
    """An end of it has no deliveries yet."""

    @classmethod
    def of(cls, job: Job) -> Seen:
        """What matters of it: an audit may be of a million jobs."""
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state,
            generation=job.generation,
            attempts=job.attempts,
            max_attempts=job.max_attempts,
            has_result=job.result is not None or job.result_ref is not None,
            untold=bool(job.untold),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found."""

    answers: int
    """Lines of the ledger."""
    accepted: int
    """Jobs that were promised."""
    refused: int
    """Submissions that were refused: there is no job."""
    unknown: int
    """Submissions of which nobody can say whether they made a job."""
    by_state: Mapping[str, int]
    """How many of the accepted jobs are in each state."""
    open: tuple[str, ...]
    """Accepted jobs that are not terminal."""
    forgotten: int
    """Accepted jobs that are not in the store, and need not be any more: a caller was told their
    end, and their retention is over."""
    unproven: tuple[str, ...]
    """Accepted jobs that are not in the store, whose retention may be over, and of whose end no
    caller was told: nobody can say any more whether they had one."""
    broken: Mapping[Broken, tuple[Offender, ...]]
    """By promise; one that was not judged is not there."""

    @property
    def terminal(self) -> int:
        """How many of the accepted jobs have come to their end."""
        return sum(count for state, count in self.by_state.items() if JobState(state).terminal)

    @property
    def held(self) -> bool:
        """Whether all that was promised was seen to be kept, and nothing is still to come."""
        return not (self.open or self.unproven) and not any(self.broken.values())

    @property
    def lost(self) -> tuple[Offender, ...]:
        """Accepted jobs that the store does not have."""
        return self.broken[Broken.LOST]

    @property
    def duplicates(self) -> tuple[Offender, ...]:
        """What happened twice and may happen once: a job of a key, a call of an attempt."""
        return (*self.broken[Broken.DUPLICATES], *self.broken.get(Broken.CALLED_TWICE, ()))

    @property
    def over_limit(self) -> tuple[Offender, ...]:
        """Jobs that were tried more often than they may be."""
        return self.broken[Broken.OVER_LIMIT]

    def findings(self) -> list[str]:
        """Everything that is not as promised, one line each; empty when it `held`."""
        broken = [
            f"{what}: {offender.name}: {offender.detail}"
            for what, offenders in self.broken.items()
            for offender in offenders
        ]
        left = [f"still open: {job_id}" for job_id in self.open]
        return [*broken, *left, *(f"not proven: {job_id}" for job_id in self.unproven)]

    def as_json(self) -> dict[str, Any]:
        """The same for programs, every offender named."""
        return {
            "held": self.held,
            "answers": self.answers,
            "accepted": self.accepted,
            "refused": self.refused,
            "unknown": self.unknown,
            "terminal": self.terminal,
            "by_state": dict(self.by_state),
            "open": list(self.open),
            "forgotten": self.forgotten,
            "unproven": list(self.unproven),
            "broken": {
                what.name.lower(): [{"name": o.name, "detail": o.detail} for o in offenders]
                for what, offenders in self.broken.items()
            },
        }


@dataclass(slots=True)
class _Promise:
    """What was said about one accepted job."""

    at: datetime
    """When it was accepted first."""
    open_at: datetime
    """When a caller was told last that it is not terminal; its retention begins after that."""
    generation: int = 1
    """The latest one that a caller was told."""
    ttl_s: int = DEFAULT_TTL_S
    told: dict[int | None, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The terminal states that callers were told, by generation."""
    not_found: list[datetime] = field(default_factory=list)


def accepted_jobs(ledger: Iterable[Answer]) -> frozenset[str]:
    """The ids of all jobs that were promised to somebody."""
    return frozenset(a.job_id for a in ledger if a.accepted and a.job_id is not None)


def judge(
    ledger: Sequence[Answer],
    jobs: Iterable[Seen],
    calls: Iterable[ProviderCall] | None,
    now: datetime,
) -> Audit:
    """Compare what was promised with what is there.

    Args:
        ledger: every answer, in order.
        jobs: what the store holds of the accepted jobs; others are passed over.
        calls: every call that reached a provider; None when there is no log of them.
        now: the time of the look at the store, aware.
    """
    promises = _promises(ledger)
    seen = {job.id: job for job in jobs if job.id in promises}
    missing = {i: promise for i, promise in promises.items() if i not in seen}
    kept = {i: promise for i, promise in missing.items() if not _over(promise, now)}
    over = {i: promise for i, promise in missing.items() if i not in kept}
    unproven = tuple(i for i, promise in over.items() if not _end_told(promise))
    broken: dict[Broken, Iterable[Offender]] = {
        Broken.LOST: _lost(kept, promises, seen),
        Broken.NOT_FOUND: _not_found(promises),
        Broken.DUPLICATES: _duplicates(ledger),
        Broken.TOLD_OTHERWISE: _told_otherwise(promises, seen),
        Broken.RESULT_WITHOUT_SUCCESS: _results(seen, with_result=True),
        Broken.SUCCESS_WITHOUT_RESULT: _results(seen, with_result=False),
        Broken.UNTOLD: (
            Offender(job.id, f"it is {job.state}") for job in seen.values() if job.untold
        ),
        **_about_calls(seen, None if calls is None else _by_job(calls, seen)),
    }
    meanings = Counter(answer.meaning for answer in ledger if answer.submission)
    return Audit(
        answers=len(ledger),
        accepted=len(promises),
        refused=meanings[Meaning.REFUSED],
        unknown=meanings[Meaning.UNKNOWN],
        by_state=dict(sorted(Counter(job.state.value for job in seen.values()).items())),
        open=tuple(i for i, job in seen.items() if not job.state.terminal),
        forgotten=len(over) - len(unproven),
        unproven=unproven,
        broken={what: tuple(broken[what]) for what in Broken if what in broken},
    )


def _promises(ledger: Iterable[Answer]) -> dict[str, _Promise]:
    found: dict[str, _Promise] = {}
    for answer in ledger:
        if answer.job_id is None:
            continue
        if answer.accepted:
            promise = found.setdefault(answer.job_id, _Promise(answer.at, answer.at))
            promise.ttl_s = answer.result_ttl_s or promise.ttl_s
        if answer.job_id in found:
            _note(found[answer.job_id], answer)
    return found


def _note(promise: _Promise, answer: Answer) -> None:
    promise.generation = max(promise.generation, answer.generation or 1)
    if answer.state is not None:
        if JobState(answer.state).terminal:
            promise.told[answer.generation].add(answer.state)
        else:
            promise.open_at = max(promise.open_at, answer.at)
    if answer.status == 404 and not _over(promise, answer.at):
        promise.not_found.append(answer.at)


def _over(promise: _Promise, at: datetime) -> bool:
    """Whether the job may be forgotten by then: its end came after it was last seen open."""
    return at - promise.open_at >= timedelta(seconds=promise.ttl_s)


def _end_told(promise: _Promise) -> bool:
    """Whether a caller was told how its latest generation ended."""
    return promise.generation in promise.told or None in promise.told


def _lost(
    kept: Mapping[str, _Promise], promises: Mapping[str, _Promise], seen: Mapping[str, Seen]
) -> Iterator[Offender]:
    """Jobs that are gone, and those of which a retry that a caller was told of is."""
    for job_id, promise in kept.items():
        yield Offender(job_id, f"accepted at {_time(promise.at)}")
    for job_id, job in seen.items():
        if (told := promises[job_id].generation) > job.generation:
            yield Offender(job_id, f"told of generation {told}; the store has {job.generation}")


def _not_found(promises: Mapping[str, _Promise]) -> Iterator[Offender]:
    for job_id, promise in promises.items():
        if promise.not_found:
            said = f"{len(promise.not_found)} times, first at {_time(promise.not_found[0])}"
            yield Offender(job_id, said)


def _duplicates(ledger: Iterable[Answer]) -> Iterator[Offender]:
    by_key: dict[str, dict[str, None]] = defaultdict(dict)
    for answer in ledger:
        if answer.accepted and answer.key is not None and answer.job_id is not None:
            by_key[answer.key][answer.job_id] = None
    for key, ids in by_key.items():
        if len(ids) > 1:
            yield Offender(key, " and ".join(ids))


def _told_otherwise(
    promises: Mapping[str, _Promise], seen: Mapping[str, Seen]
) -> Iterator[Offender]:
    for job_id, promise in promises.items():
        job = seen.get(job_id)
        for generation, states in promise.told.items():
            if len(states) > 1 and generation is not None:
                yield Offender(job_id, f"told {' and '.join(sorted(states))}")
            elif job is not None and _changed(job, generation, states):
                yield Offender(job_id, f"told {', '.join(sorted(states))}; it is {job.state}")


def _changed(job: Seen, generation: int | None, states: set[str]) -> bool:
    # Who was not told the generation cannot complain of a job that was replayed since.
    same = generation == job.generation or (generation is None and job.generation == 1)
    return same and states != {job.state}


def _results(seen: Mapping[str, Seen], *, with_result: bool) -> Iterator[Offender]:
    """Jobs with a result that did not succeed, or without one that did."""
    for job in seen.values():
        succeeded = job.state is JobState.SUCCEEDED
        if job.has_result is with_result and succeeded is not with_result:
            yield Offender(job.id, f"it is {job.state}")


Calls = Mapping[str, Sequence[ProviderCall]]
"""What reached a provider, by job."""


def _by_job(calls: Iterable[ProviderCall], seen: Mapping[str, Seen]) -> Calls:
    found: dict[str, list[ProviderCall]] = defaultdict(list)
    for call in calls:
        if call.job_id in seen:
            found[call.job_id].append(call)
    return found


def _about_calls(seen: Mapping[str, Seen], calls: Calls | None) -> dict[Broken, Iterable[Offender]]:
    if calls is None:
        return {Broken.OVER_LIMIT: _over_limit(seen, {})}
    return {
        Broken.OVER_LIMIT: _over_limit(seen, calls),
        Broken.CALLED_TWICE: _called_twice(seen, calls),
        Broken.SUCCESS_WITHOUT_CALL: (
            Offender(job.id, f"attempt {job.attempts} succeeded")
            for job in seen.values()
            if job.state is JobState.SUCCEEDED and job.attempts not in _attempts(calls, job)
        ),
        Broken.CALLED_UNSTARTED: (
            Offender(job.id, f"{job.state} with no attempt, {len(calls[job.id])} calls")
            for job in seen.values()
            if _never_began(job) and job.generation == 1 and calls.get(job.id)
        ),
        Broken.CALLED_UNCOUNTED: _called_uncounted(seen, calls),
    }


def _attempts(calls: Calls, job: Seen) -> Counter[int]:
    """How many requests of each attempt of a job reached a provider."""
    return Counter(call.attempt for call in calls.get(job.id, ()))


def _never_began(job: Seen) -> bool:
    return job.state in NEVER_CALLED and job.attempts == 0


def _over_limit(seen: Mapping[str, Seen], calls: Calls) -> Iterator[Offender]:
    for job in seen.values():
        made = _attempts(calls, job)
        allowed = job.max_attempts * job.generation
        called = len(made) if _is_crawl(job) else made.total()
        if job.attempts > job.max_attempts:
            yield Offender(job.id, f"{job.attempts} attempts, allowed {job.max_attempts}")
        elif max(made, default=0) > job.max_attempts:
            yield Offender(job.id, f"attempt {max(made)} called, allowed {job.max_attempts}")
        elif called > allowed:
            yield Offender(job.id, f"{called} calls, allowed {allowed}")


def _called_twice(seen: Mapping[str, Seen], calls: Calls) -> Iterator[Offender]:
    for job_id, made in calls.items():
        job = seen[job_id]
        if _is_crawl(job):
            twice = _pages_asked_twice(made, job.generation)
        else:
            counts = sorted(_attempts(calls, job).items())
            twice = (f"attempt {n}: {count} calls" for n, count in counts if count > job.generation)
        if (first := next(iter(twice), None)) is not None:
            yield Offender(job_id, first)


def _pages_asked_twice(made: Iterable[ProviderCall], generation: int) -> Iterator[str]:
    """An attempt of a crawl asks for each page once, redirects included."""
    asked: dict[int, Counter[str]] = defaultdict(Counter)
    for call in made:
        if not call.path.endswith(_CRAWLER_API):
            asked[call.attempt][call.path] += 1
    for attempt, pages in sorted(asked.items()):
        first = next(iter(pages))
        for path, count in pages.items():
            # A query is not in the log: the page that a crawl begins with may be linked without it.
            variants = 2 if path == first and len(pages) > 1 else 1
            if count > generation * variants:
                yield f"attempt {attempt}: {path} {count} times"


def _called_uncounted(seen: Mapping[str, Seen], calls: Calls) -> Iterator[Offender]:
    for job in seen.values():
        last = max(_attempts(calls, job), default=0)
        # Only what is at its end: the log is read after the store, and an open job may go on.
        judged = job.state.terminal and job.generation == 1 and not _never_began(job)
        if judged and last > job.attempts:
            yield Offender(job.id, f"attempt {last} called, {job.attempts} counted")


def _is_crawl(job: Seen) -> bool:
    return job.kind is JobKind.CRAWL


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
