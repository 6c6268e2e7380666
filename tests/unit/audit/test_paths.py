from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from forebay.audit.paths import Snapshot, path_breaches
from forebay.jobs import TRANSITIONS, Attempt, Event, Job, JobState, OnUnknown
from forebay.store import Claimed, JobRef
from forebay.store.memory import MemoryJobStore
from tests.contract.store.jobs import PASSING, a_job, a_waiting_job, an_attempt, an_ending

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Recorded(MemoryJobStore):
    """The fake store, and every version of its jobs."""

    def __init__(self) -> None:
        self.now = AT
        self.versions: list[Job] = []
        super().__init__(lambda: self.now)

    def _insert(self, job: Job) -> Any:
        self.versions.append(job)
        return super()._insert(job)

    def _put(self, job: Job) -> Job:
        self.versions.append(job)
        return super()._put(job)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def start(self, **changes: Any) -> Job:
        job = a_job(**changes)
        await self.insert([job])
        return await self.claim_it(job)

    async def claim_it(self, job: Job, lease_s: float = 30) -> Job:
        ref = replace(JobRef.of(job), generation=self.versions[-1].generation)
        claimed = await self.claim(ref, "worker-1", lease_s)
        assert isinstance(claimed, Claimed), claimed
        return claimed.job

    async def end(self, job: Job, event: Event, **changes: Any) -> Job:
        assert job.lease is not None
        ended = await self.finish(job.id, job.lease.token, an_ending(job, event, **changes))
        assert ended is not None
        return ended

    def breaches(self) -> list[str]:
        return path_breaches(Snapshot.of(job) for job in self.versions)


@pytest.fixture
def store() -> Recorded:
    return Recorded()


async def test_a_job_that_succeeds_at_once_breaks_nothing(store: Recorded) -> None:
    job = await store.start()
    await store.mark_published([JobRef.of(job)])
    await store.end(job, Event.SUCCEEDED)
    assert [version.state for version in store.versions] == ["queued", "running", "succeeded"]
    assert store.breaches() == []


async def test_a_job_that_goes_every_way_breaks_nothing(store: Recorded) -> None:
    waiting = a_waiting_job(timedelta(0), created_at=AT, not_before=AT, max_attempts=5)
    await store.insert([waiting])
    await store.queue_due(10)
    job = await store.claim_it(waiting)
    await store.end(job, Event.SNOOZED, uncount=True, wait_s=0)
    await store.queue_due(10)
    job = await store.claim_it(waiting)
    await store.end(job, Event.HANDED_BACK, uncount=True)
    job = await store.claim_it(waiting)
    await store.renew(job.id, job.lease.token if job.lease else "", 30)
    await store.end(job, Event.RETRY_LATER, error=PASSING, wait_s=0)
    job = await store.claim_it(waiting)  # before the relay came
    store.move(31)
    await store.rescue(10)
    await store.claim_it(waiting)
    store.move(31)
    job = await store.claim_it(waiting)  # before the rescuer came
    large = '"' + "r" * 300_000 + '"'
    await store.end(job, Event.SUCCEEDED, result=large)
    await store.retry("default", job.id)
    job = await store.claim_it(waiting)
    await store.end(job, Event.FAILED, error=PASSING)
    assert len(store.versions) > 15
    assert store.breaches() == []


@pytest.mark.parametrize("changes", [{"max_attempts": 1}, {"on_unknown": OnUnknown.FAIL}])
async def test_a_job_that_fails_with_its_worker_breaks_nothing(
    store: Recorded, changes: Any
) -> None:
    await store.start(**changes)
    store.move(31)
    await store.rescue(10)
    assert store.versions[-1].state is JobState.FAILED
    assert store.breaches() == []


async def test_an_expired_job_breaks_nothing(store: Recorded) -> None:
    await store.insert([a_job(deadline=AT + timedelta(seconds=1))])
    store.move(2)
    assert await store.expire(10) == 1
    assert store.breaches() == []


def lived(state: JobState, **changes: Any) -> Snapshot:
    """A snapshot of a job in this state that is right by itself."""
    leased = state in {JobState.RUNNING, JobState.CANCELING}
    fields: dict[str, Any] = {
        "state": state,
        "generation": 1,
        "attempts": 1,
        "max_attempts": 3,
        "token": "t" if leased else None,
        "lease_until": AT + timedelta(seconds=30) if leased else None,
        "started_at": AT,
        "result": "r" if state is JobState.SUCCEEDED else None,
        "has_error": state in {JobState.FAILED, JobState.EXPIRED},
    }
    return Snapshot(**{**fields, **changes})


BORN = lived(JobState.QUEUED, attempts=0, started_at=None)
RUNNING = lived(JobState.RUNNING)
DONE = lived(JobState.SUCCEEDED)


def an_ended_attempt(outcome: str, after_s: float = 31) -> dict[str, Any]:
    job = a_job(attempts=1)
    at = AT + timedelta(seconds=after_s)
    return {"last": an_attempt(job, outcome, finished_at=at), "records": 1}


def breaches(*steps: Snapshot) -> list[str]:
    return path_breaches([BORN, RUNNING, *steps])


def test_these_are_right_to_begin_with() -> None:
    assert breaches(DONE) == []


@pytest.mark.parametrize("before", list(JobState))
@pytest.mark.parametrize("after", list(JobState))
def test_a_state_may_follow_another_only_as_the_table_says(
    before: JobState, after: JobState
) -> None:
    was = lived(before)
    taken = was.token is None and lived(after).token is not None
    then = lived(after, token="u", attempts=2) if taken else lived(after)
    events = {event for event, state in TRANSITIONS[before].items() if state is after}
    allowed = before is after or bool(events - {Event.REPLAYED})
    found = [one for one in path_breaches([was, then]) if not one.startswith("it was born")]
    assert (found == []) is allowed, found


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([DONE, lived(JobState.RUNNING, token="u")], "succeeded became running"),
        ([DONE, lived(JobState.FAILED)], "succeeded became failed: a terminal state is final"),
        ([DONE, lived(JobState.QUEUED)], "succeeded became queued: a terminal state is final"),
        ([DONE, lived(JobState.SUCCEEDED, result="other")], "two different results"),
        (
            [DONE, lived(JobState.QUEUED, generation=3, attempts=0)],
            "generation 1 was followed by 3",
        ),
        ([DONE, lived(JobState.QUEUED, generation=2)], "generation 2 began with 1 attempts"),
        (
            [DONE, lived(JobState.RUNNING, generation=2, attempts=0)],
            "succeeded became running with a new generation",
        ),
        (
            [lived(JobState.QUEUED, generation=2, attempts=0)],
            "running became queued with a new generation",
        ),
        ([lived(JobState.SCHEDULED)], "running became scheduled: there is no such step"),
        (
            [lived(JobState.RUNNING, token="u", attempts=2)],
            "a new lease was given while the old one was live",
        ),
        (
            [
                replace(RUNNING, repeatable=False),
                lived(
                    JobState.RUNNING,
                    token="u",
                    attempts=2,
                    started_at=AT + timedelta(seconds=31),
                ),
            ],
            "it must not be repeated, and was claimed again",
        ),
        (
            [RUNNING, lived(JobState.FAILED, has_error=True, **an_ended_attempt("lease_lost"))],
            "it failed for one lost attempt, and had others left",
        ),
        (
            [
                replace(RUNNING, repeatable=False),
                lived(JobState.QUEUED, **an_ended_attempt("lease_lost")),
            ],
            "it must not be repeated, and was queued again",
        ),
        (
            [lived(JobState.QUEUED, **an_ended_attempt("lease_lost", 29))],
            "it was taken back while its lease was live",
        ),
        (
            [lived(JobState.CANCELING), lived(JobState.RUNNING, token="u", attempts=2)],
            "a canceling job was claimed over its lease",
        ),
        (
            [lived(JobState.QUEUED), lived(JobState.RUNNING, token="u")],
            "a claim made 1 attempts of 1",
        ),
        (
            [lived(JobState.RETRYING), lived(JobState.RUNNING, token="u", attempts=3)],
            "a claim made 3 attempts of 1",
        ),
        (
            [lived(JobState.RETRYING, attempts=0, **an_ended_attempt("retry"))],
            "1 attempts became 0, and nothing was claimed or given back",
        ),
        ([lived(JobState.QUEUED, attempts=2)], "1 attempts became 2"),
        ([lived(JobState.QUEUED), lived(JobState.QUEUED, attempts=0)], "1 attempts became 0"),
        ([lived(JobState.FAILED, attempts=0)], "1 attempts became 0"),
        ([lived(JobState.RUNNING, attempts=4)], "4 attempts, and 3 are allowed"),
        ([lived(JobState.SUCCEEDED, token="t")], "succeeded with a lease: a terminal job has none"),
        ([lived(JobState.QUEUED, token="t")], "queued with a lease"),
        ([lived(JobState.RUNNING, token=None)], "running without a lease"),
        (
            [lived(JobState.QUEUED), lived(JobState.RUNNING, token=None)],
            "queued became running without a new lease",
        ),
        ([lived(JobState.SUCCEEDED, result=None)], "succeeded without a result"),
        ([lived(JobState.FAILED, result="r")], "failed with a result"),
        ([lived(JobState.RETRYING, result="r")], "retrying with a result"),
        ([lived(JobState.FAILED, has_error=False)], "failed without an error"),
        ([lived(JobState.EXPIRED, has_error=False)], "expired without an error"),
        ([lived(JobState.SUCCEEDED, has_error=True)], "succeeded with an error"),
    ],
)
def test_a_breach_is_named(steps: Sequence[Snapshot], said: str) -> None:
    assert any(said in breach for breach in breaches(*steps)), breaches(*steps)


def test_a_job_must_be_born_waiting_and_untried() -> None:
    assert path_breaches([RUNNING]) == [
        "it was born running",
        "it was born in generation 1 with 1 attempts",
    ]


def test_a_lease_that_ran_out_may_be_given_anew_at_that_very_moment() -> None:
    second = lived(JobState.RUNNING, token="u", attempts=2, started_at=AT + timedelta(seconds=30))
    assert breaches(second) == []


async def test_a_claim_that_takes_its_own_lapsed_lease_again_breaks_nothing(
    store: Recorded,
) -> None:
    job = a_job()
    await store.insert([job])
    for _ in range(2):
        await store.claim(JobRef.of(job), "worker-1", 30, "the same token")
        store.move(31)
    assert store.versions[-1].attempts == 2
    assert store.breaches() == []


def test_a_history_that_is_full_still_tells_how_the_attempt_ended() -> None:
    full = an_ended_attempt("snoozed")
    before = replace(RUNNING, attempts=2, last=an_attempt(a_job(), "retry"), records=200)
    after = lived(JobState.RETRYING, attempts=1, last=full["last"], records=200)
    assert [b for b in path_breaches([before, after]) if "became" in b] == []
    counted = replace(after, last=an_attempt(a_job(), "failed"))
    assert any("2 attempts became 1" in b for b in path_breaches([before, counted]))


def test_the_snapshot_of_a_job_has_all_that_is_judged() -> None:
    attempt: Attempt = an_attempt(a_job(attempts=1), "retry")
    snapshot = Snapshot.of(a_job(history=(attempt,), error=PASSING, result=""))
    assert (snapshot.last, snapshot.records, snapshot.has_error) == (attempt, 1, True)
    assert snapshot.result == ""
    assert path_breaches([]) == []
