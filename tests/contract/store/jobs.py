"""Jobs and endings for the suite: valid by default, each test names what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import uuid_utils

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Attempt, Event, Job, JobKind, JobState, Lane, Lease
from forebay.store import Claimed, Ending, JobRef, JobStore

HOUR = timedelta(hours=1)
PASSING = JobError(ErrorCode.PROVIDER_ERROR, "the provider answered 503", retryable=True)


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def a_job(**changes: Any) -> Job:
    at = now()
    fields: dict[str, Any] = {
        "id": f"job_{uuid_utils.uuid7().hex}",
        "tenant": "default",
        "kind": JobKind.SEARCH,
        "lane": Lane.DEFAULT,
        "state": JobState.QUEUED,
        "input": '{"query": "hydro"}',
        "created_at": at,
        "queued_at": at,
        "max_attempts": 3,
    }
    return Job(**{**fields, **changes})


def a_canceling_job(*, token: str = "t", until: datetime | None = None, **changes: Any) -> Job:  # noqa: S107  made up
    lease = Lease(token, "worker-1", until or now() + HOUR)
    started = {"state": JobState.CANCELING, "lease": lease, "started_at": now(), "attempts": 1}
    return a_job(**{**started, **changes})


def a_waiting_job(due_in: timedelta, **changes: Any) -> Job:
    waits = {"state": JobState.SCHEDULED, "not_before": now() + due_in, "queued_at": None}
    return a_job(**{**waits, **changes})


async def inserted(store: JobStore, *jobs: Job) -> None:
    await store.insert(jobs)


async def claimed(store: JobStore, job: Job, *, lease_s: float = 3600) -> Job:
    """The job as its worker holds it; a lease of 0 s has run out at once."""
    claim = await store.claim(JobRef.of(job), "worker-1", lease_s)
    assert isinstance(claim, Claimed), claim
    return claim.job


async def started(store: JobStore, *, lease_s: float = 3600, **changes: Any) -> Job:
    job = a_job(**changes)
    await store.insert([job])
    return await claimed(store, job, lease_s=lease_s)


async def stored(store: JobStore, job: Job) -> Job:
    found = await store.get(job.tenant, job.id)
    assert found is not None
    return found


def token_of(job: Job) -> str:
    assert job.lease is not None
    return job.lease.token


def an_attempt(job: Job, outcome: str = "succeeded", **changes: Any) -> Attempt:
    at = now()
    fields: dict[str, Any] = {
        "n": job.attempts,
        "generation": job.generation,
        "outcome": outcome,
        "worker": "worker-1",
        "started_at": at,
        "finished_at": at,
    }
    return Attempt(**{**fields, **changes})


def an_ending(job: Job, event: Event, **changes: Any) -> Ending:
    fields: dict[str, Any] = {"attempt": an_attempt(job, event.value.replace(" ", "_"))}
    if event is Event.SUCCEEDED:
        fields["result"] = '{"ok": true}'
    return Ending(event=event, **{**fields, **changes})
