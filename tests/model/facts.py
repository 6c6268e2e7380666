"""What stores and model must agree on."""

from __future__ import annotations

from typing import Any

from forebay.errors import JobError
from forebay.jobs import Job, JobState

from .expected import Expected


def facts(job: Job) -> dict[str, Any]:
    """Of a job as a store has it."""
    return {
        "state": job.state,
        "generation": job.generation,
        "attempts": job.attempts,
        "token": job.lease and job.lease.token,
        "published": job.published_at is not None and job.state is JobState.QUEUED,
        "result": job.result is not None or job.result_ref is not None,
        "error": code(job.error),
        "dead_lettered": job.dead_lettered,
        "outcomes": [attempt.outcome for attempt in job.history],
        "untold": [(end.generation, end.state) for end in job.untold],
        "ended": (job.finished_at is not None, job.expires_at is not None),
    }


def facts_of(model: Expected) -> dict[str, Any]:
    """The same as the model expects them."""
    return {
        "state": model.state,
        "generation": model.generation,
        "attempts": model.attempts,
        "token": model.token,
        "published": model.published and model.state is JobState.QUEUED,
        "result": model.result is not None,
        "error": model.error,
        "dead_lettered": model.dead_lettered,
        "outcomes": model.outcomes,
        "untold": model.untold,
        "ended": (model.state.terminal, model.state.terminal),
    }


def code(error: JobError | None) -> str | None:
    """What is compared of an error: its words are each store's own."""
    return error and error.code.value
