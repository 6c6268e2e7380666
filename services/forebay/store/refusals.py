"""Why a job may not be claimed now: pure, and the mirror of `updates.claimable`.

The memory store decides by it. The MongoDB store asks only after a compare-and-set missed, to name
the reason; the contract suite holds the two to the same answers.
"""

from __future__ import annotations

from datetime import datetime

from forebay.jobs import Job, JobState, OnUnknown
from forebay.store import Refusal, Refused
from forebay.store.suspects import is_suspect
from forebay.store.updates import CLAIMABLE, LAPSABLE


def refusal(job: Job, generation: int, now: datetime, *, suspects: bool = True) -> Refusal | None:
    """The first reason against a claim by a message of this generation; None when there is none.

    Args:
        job: as it is in the store.
        generation: of the message.
        now: the store's time.
        suspects: whether the claim is for suspects too.
    """
    if job.generation != generation:
        return Refusal.STALE
    if job.state is not JobState.SCHEDULED and job.state not in CLAIMABLE | LAPSABLE:
        return Refusal.FINISHED
    if job.state in LAPSABLE and not lapsed(job, now):
        return Refusal.BUSY
    if out_of_time(job, now):
        return Refusal.EXPIRED
    if job.state not in CLAIMABLE | LAPSABLE or _waits(job, now):
        return Refusal.NOT_DUE
    unrepeatable = job.state in LAPSABLE and job.on_unknown is OnUnknown.FAIL
    if unrepeatable or job.attempts >= job.max_attempts:
        return Refusal.EXHAUSTED
    return Refusal.SUSPECT if not suspects and is_suspect(job) else None


def refused(job: Job, reason: Refusal) -> Refused:
    """The answer to a claim; of a job that is over it says how that ended."""
    if reason is Refusal.FINISHED and job.done:
        return Refused(reason, job.dead_lettered, job.error)
    return Refused(reason)


def lapsed(job: Job, now: datetime) -> bool:
    """Whether the job's lease ran out."""
    return job.lease is not None and job.lease.until <= now


def out_of_time(job: Job, now: datetime) -> bool:
    """Whether `start_by` (while no attempt was made) or `deadline` passed."""
    too_late_to_start = job.attempts == 0 and job.start_by is not None and job.start_by <= now
    return too_late_to_start or (job.deadline is not None and job.deadline <= now)


def _waits(job: Job, now: datetime) -> bool:
    return job.state is JobState.RETRYING and job.not_before is not None and job.not_before > now
