from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job, JobState, OnUnknown
from forebay.store import Claimed, JobRef, JobStore, Refusal, Refused, Renewal
from tests.contract.store.jobs import (
    HOUR,
    PASSING,
    a_canceling_job,
    a_job,
    a_waiting_job,
    an_attempt,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    stored,
    token_of,
)


async def refused(store: JobStore, job: Job) -> Refusal:
    claim = await store.claim(JobRef.of(job), "worker-2", 3600)
    assert isinstance(claim, Refused), claim
    return claim.reason


async def test_the_same_claim_again_finds_its_own_lease_and_counts_nothing(
    store: JobStore,
) -> None:
    job = a_job()
    await inserted(store, job)
    first = await store.claim(JobRef.of(job), "worker-1", 3600, "mine")
    assert isinstance(first, Claimed)
    assert await store.claim(JobRef.of(job), "worker-1", 3600, "mine") == first
    assert await store.claim(JobRef.of(job), "worker-1", 3600, "other") == Refused(Refusal.BUSY)
    assert (await stored(store, job)).attempts == 1


async def test_a_claim_counts_the_attempt_and_gives_a_lease(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    running = await claimed(store, job, lease_s=60)
    assert running.state is JobState.RUNNING
    assert running.attempts == 1
    assert running.lease is not None
    assert running.lease.worker == "worker-1"
    assert len(running.lease.token) == 32
    assert running.started_at is not None
    assert running.lease.until - running.started_at == timedelta(seconds=60)
    assert running.input == job.input
    assert await stored(store, job) == running


async def test_of_a_hundred_claims_at_once_one_wins(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    claims = await asyncio.gather(
        *(store.claim(JobRef.of(job), f"worker-{n}", 3600) for n in range(100))
    )
    assert sum(isinstance(claim, Claimed) for claim in claims) == 1
    assert claims.count(Refused(Refusal.BUSY)) == 99
    assert (await stored(store, job)).attempts == 1


async def test_an_unknown_job_is_refused(store: JobStore) -> None:
    assert await refused(store, a_job()) is Refusal.UNKNOWN


async def test_a_message_of_another_generation_is_stale(store: JobStore) -> None:
    job = a_job(generation=2)
    await inserted(store, job)
    assert await refused(store, job.evolve(generation=1)) is Refusal.STALE
    assert await refused(store, job.evolve(generation=3)) is Refusal.STALE


@pytest.mark.parametrize("state", sorted(state for state in JobState if state.terminal))
async def test_a_terminal_job_is_finished(store: JobStore, state: JobState) -> None:
    job = a_job(state=state, finished_at=now())
    await inserted(store, job)
    assert await refused(store, job) is Refusal.FINISHED


async def test_the_refusal_of_a_job_that_is_over_says_how_it_ended(store: JobStore) -> None:
    spent = JobError(ErrorCode.ATTEMPTS_EXHAUSTED, "3 of 3 attempts were made")
    dead = a_job(state=JobState.FAILED, dead_lettered=True, error=spent, finished_at=now())
    failed = a_job(state=JobState.FAILED, error=PASSING, finished_at=now())
    done = a_job(state=JobState.SUCCEEDED, result="1", finished_at=now())
    await inserted(store, dead, failed, done)

    async def said(job: Job) -> tuple[Refusal, bool, JobError | None]:
        claim = await store.claim(JobRef.of(job), "worker-2", 3600)
        assert isinstance(claim, Refused), claim
        return claim.reason, claim.dead_lettered, claim.error

    assert await said(dead) == (Refusal.FINISHED, True, spent)
    assert await said(failed) == (Refusal.FINISHED, False, PASSING)
    assert await said(done) == (Refusal.FINISHED, False, None)
    assert await said(dead.evolve(generation=2)) == (Refusal.STALE, False, None)


async def test_a_job_that_is_not_over_has_not_ended_in_any_way(store: JobStore) -> None:
    job = a_canceling_job(error=PASSING)
    await inserted(store, job)
    claim = await store.claim(JobRef.of(job), "worker-2", 3600)
    assert isinstance(claim, Refused)
    assert (claim.reason, claim.error) == (Refusal.FINISHED, None)


async def test_a_canceling_job_is_as_good_as_finished(store: JobStore) -> None:
    job = a_canceling_job(until=now() - HOUR)
    await inserted(store, job)
    assert await refused(store, job) is Refusal.FINISHED


async def test_a_live_lease_is_respected(store: JobStore) -> None:
    job = await started(store)
    assert await refused(store, job) is Refusal.BUSY
    assert await stored(store, job) == job


async def test_a_lapsed_lease_is_taken_over_and_the_lost_attempt_written_down(
    store: JobStore,
) -> None:
    lost = await started(store, lease_s=0)
    again = await claimed(store, lost)
    assert again.attempts == 2
    assert token_of(again) != token_of(lost)
    (record,) = again.history
    assert (record.outcome, record.n, record.worker) == ("lease_lost", 1, "worker-1")
    assert record.started_at == lost.started_at


async def test_a_lapsed_call_that_must_not_be_repeated_is_left_to_rescue(store: JobStore) -> None:
    job = await started(store, lease_s=0, on_unknown=OnUnknown.FAIL)
    assert await refused(store, job) is Refusal.EXHAUSTED


async def test_no_claim_goes_over_the_allowed_attempts(store: JobStore) -> None:
    job = await started(store, lease_s=0, max_attempts=1)
    assert await refused(store, job) is Refusal.EXHAUSTED
    spent = a_job(attempts=3, max_attempts=3)
    await inserted(store, spent)
    assert await refused(store, spent) is Refusal.EXHAUSTED


@pytest.mark.parametrize("state", [JobState.SCHEDULED, JobState.RETRYING])
async def test_what_waits_for_its_time_is_not_due(store: JobStore, state: JobState) -> None:
    job = a_waiting_job(HOUR, state=state, attempts=1)
    await inserted(store, job)
    assert await refused(store, job) is Refusal.NOT_DUE


async def test_a_retrying_job_past_its_time_can_be_claimed(store: JobStore) -> None:
    job = a_waiting_job(-HOUR, state=JobState.RETRYING, attempts=1)
    await inserted(store, job)
    running = await claimed(store, job)
    assert running.not_before is None
    assert running.attempts == 2


async def test_a_queued_job_never_waits_for_a_time_its_submitter_set(store: JobStore) -> None:
    job = a_job(not_before=now() + HOUR)
    await inserted(store, job)
    assert (await claimed(store, job)).state is JobState.RUNNING


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"start_by": now() - HOUR}, Refusal.EXPIRED),
        ({"deadline": now() - HOUR}, Refusal.EXPIRED),
        ({"deadline": now() - HOUR, "attempts": 1}, Refusal.EXPIRED),
        ({"start_by": now() - HOUR, "attempts": 1}, None),
        ({"start_by": now() + HOUR, "deadline": now() + HOUR}, None),
    ],
)
async def test_a_job_out_of_time_is_not_started(
    store: JobStore, limits: dict[str, Any], reason: Refusal | None
) -> None:
    job = a_job(**limits)
    await inserted(store, job)
    claim = await store.claim(JobRef.of(job), "worker-1", 60)
    assert (claim.reason if isinstance(claim, Refused) else None) is reason


async def test_a_renewal_extends_the_lease_from_now(store: JobStore) -> None:
    job = await started(store, lease_s=0)
    assert await store.renew(job.id, token_of(job), 3600) is Renewal.HELD
    renewed = await stored(store, job)
    assert renewed.lease is not None
    assert renewed.lease.until >= now() + HOUR - timedelta(seconds=30)
    assert (renewed.lease.token, renewed.lease.worker) == (token_of(job), "worker-1")
    assert await refused(store, job) is Refusal.BUSY


async def test_a_renewal_without_the_lease_is_lost(store: JobStore) -> None:
    lost = await started(store, lease_s=0)
    again = await claimed(store, lost)
    assert await store.renew(lost.id, token_of(lost), 3600) is Renewal.LOST
    assert await store.renew("job_none", token_of(lost), 3600) is Renewal.LOST
    assert await stored(store, again) == again


async def test_a_renewal_says_that_the_job_is_to_stop_and_keeps_the_lease(
    store: JobStore,
) -> None:
    job = a_canceling_job(token="t", until=now())
    await inserted(store, job)
    assert await store.renew(job.id, "t", 3600) is Renewal.CANCELING
    assert [*await store.rescue(10)] == []


LOST, ENDED = ("lease_lost",), ("retry_later",)
SUSPECTS = [
    ((), 1, 3, False),
    (LOST, 1, 3, False),
    (LOST * 2, 2, 3, True),
    (LOST * 2, 2, 9, True),
    (LOST, 2, 3, True),
    (LOST, 1, 2, True),
    ((), 2, 3, False),
    (LOST * 2 + ENDED, 3, 9, False),
    (LOST + ENDED + LOST, 3, 9, False),
    (ENDED + LOST * 2, 3, 9, True),
    (("lease_lost", "snoozed", "handed_back", "lease_lost", "snoozed"), 3, 9, True),
    (("snoozed", "handed_back") * 3, 3, 9, False),
]


@pytest.mark.parametrize(("outcomes", "attempts", "most", "suspect"), SUSPECTS)
async def test_a_job_that_lost_its_worker_again_and_again_is_a_suspect(
    store: JobStore, outcomes: tuple[str, ...], attempts: int, most: int, suspect: bool
) -> None:
    job = a_job(attempts=attempts, max_attempts=most)
    job = job.evolve(history=tuple(an_attempt(job, outcome) for outcome in outcomes))
    await inserted(store, job)
    claim = await store.claim(JobRef.of(job), "worker-2", 3600, suspects=False)
    assert (claim == Refused(Refusal.SUSPECT)) is suspect
    if suspect:
        assert await stored(store, job) == job
        assert (await claimed(store, job)).attempts == attempts + 1


@pytest.mark.parametrize(
    ("outcomes", "attempts", "most", "suspect"),
    [((), 1, 9, False), (LOST, 2, 9, True), ((), 1, 2, True), (ENDED, 2, 9, False)],
)
async def test_the_attempt_that_is_taken_over_is_a_lost_one(
    store: JobStore, outcomes: tuple[str, ...], attempts: int, most: int, suspect: bool
) -> None:
    job = a_job(attempts=attempts - 1, max_attempts=most)
    job = job.evolve(history=tuple(an_attempt(job, outcome) for outcome in outcomes))
    await inserted(store, job)
    lapsed = await claimed(store, job, lease_s=0)
    claim = await store.claim(JobRef.of(lapsed), "worker-2", 3600, suspects=False)
    assert (claim == Refused(Refusal.SUSPECT)) is suspect


async def test_every_other_reason_comes_before_the_suspicion(store: JobStore) -> None:
    job = a_job(attempts=2, max_attempts=3)
    job = job.evolve(history=(an_attempt(job, "lease_lost"),) * 2)
    held = job.evolve(id=f"{job.id}1", state=JobState.QUEUED)
    over = job.evolve(id=f"{job.id}2", state=JobState.FAILED, finished_at=now())
    late = job.evolve(id=f"{job.id}3", deadline=now() - HOUR)
    await inserted(store, held, over, late)
    await claimed(store, held)
    reasons = [
        await store.claim(JobRef.of(each), "worker-2", 60, suspects=False)
        for each in (held, over, late, late.evolve(generation=7))
    ]
    assert reasons == [
        Refused(Refusal.BUSY),
        Refused(Refusal.FINISHED),
        Refused(Refusal.EXPIRED),
        Refused(Refusal.STALE),
    ]


async def test_a_claim_that_is_not_for_suspects_can_be_repeated_too(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    first = await store.claim(JobRef.of(job), "worker-1", 3600, "mine", suspects=False)
    assert isinstance(first, Claimed)
    again = await store.claim(JobRef.of(job), "worker-1", 3600, "mine", suspects=False)
    assert again == first


async def test_a_claim_that_arrives_once_more_when_its_attempt_is_over_takes_nothing(
    store: JobStore,
) -> None:
    job = a_job()
    await inserted(store, job)
    await store.claim(JobRef.of(job), "worker-1", 3600, "mine")
    retry = an_ending(await stored(store, job), Event.RETRY_LATER, wait_s=0)
    await store.finish(job.id, "mine", retry)
    before = await stored(store, job)
    assert await store.claim(JobRef.of(job), "worker-1", 3600, "mine") == Refused(Refusal.BUSY)
    assert await stored(store, job) == before
    assert isinstance(await store.claim(JobRef.of(job), "worker-2", 3600, "another"), Claimed)


async def test_a_postponed_job_waits_uncounted_and_unrecorded(store: JobStore) -> None:
    job = a_job(attempts=2, max_attempts=3, queued_at=now() - HOUR)
    await inserted(store, job)
    await store.mark_published([JobRef.of(job)])
    await store.postpone(JobRef.of(job), 60)
    waits = await stored(store, job)
    assert waits.not_before is not None
    assert timedelta(seconds=30) < waits.not_before - now() <= timedelta(seconds=60)
    assert waits == job.evolve(state=JobState.RETRYING, not_before=waits.not_before)
    assert await refused(store, job) is Refusal.NOT_DUE
    await store.postpone(JobRef.of(job), 0)
    assert [*await store.queue_due(10)] == []


@pytest.mark.parametrize("changes", [{"state": JobState.SUCCEEDED}, {"generation": 2}])
async def test_only_the_queued_job_that_was_meant_is_postponed(
    store: JobStore, changes: dict[str, Any]
) -> None:
    job = a_job(**changes)
    await inserted(store, job)
    running = await started(store)
    for ref in (JobRef.of(job.evolve(generation=1)), JobRef.of(running), JobRef.of(a_job())):
        await store.postpone(ref, 60)
    assert await stored(store, job) == job
    assert await stored(store, running) == running


async def test_a_postponed_job_comes_again_when_its_time_has_come(store: JobStore) -> None:
    job = a_job(attempts=2, max_attempts=3)
    await inserted(store, job)
    await store.postpone(JobRef.of(job), 0)
    (ref,) = await store.queue_due(10)
    assert ref.id == job.id
    assert (await claimed(store, job)).attempts == 3
