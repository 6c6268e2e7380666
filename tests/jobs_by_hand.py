"""A running job as a handler gets it."""

from __future__ import annotations

from datetime import UTC, datetime

from forebay.jobs import Job, JobKind, JobState, Lane, ProviderPreference


def running_job(kind: JobKind, *order: str, attempts: int = 1, allow_fallbacks: bool = True) -> Job:
    return Job(
        id="job_0199",
        tenant="default",
        kind=kind,
        lane=Lane.DEFAULT,
        state=JobState.RUNNING,
        input="{}",
        created_at=datetime(2026, 11, 22, tzinfo=UTC),
        max_attempts=5,
        attempts=attempts,
        provider=ProviderPreference(order, allow_fallbacks),
    )
