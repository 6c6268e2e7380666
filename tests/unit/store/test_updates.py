from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from forebay.jobs import TERMINAL, Event, JobState
from forebay.store import ENDINGS, Ending, JobRef, updates
from tests.contract.store.jobs import PASSING, a_job, an_ending

FAR = datetime(9999, 1, 1, tzinfo=UTC)
"""Stands for a limit that is not set."""


def test_the_states_of_each_filter_come_from_the_table() -> None:
    assert {JobState.QUEUED, JobState.RETRYING} == updates.CLAIMABLE
    assert {JobState.RUNNING} == updates.LAPSABLE
    assert {JobState.RUNNING, JobState.CANCELING} == updates.LEASED
    assert {JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING} == updates.WAITING
    assert {JobState.SCHEDULED, JobState.RETRYING} == updates.DUE_FROM


@pytest.mark.parametrize("event", sorted(ENDINGS))
def test_every_ending_leads_to_one_state(event: Event) -> None:
    assert updates.destination(event) in TERMINAL | {JobState.RETRYING, JobState.QUEUED}


def outside_literals(part: Any) -> list[str]:
    """Every string of a pipeline that the server would read as a field or a variable."""
    if isinstance(part, str):
        return [part] if part.startswith("$") else []
    if isinstance(part, list):
        return [name for item in part for name in outside_literals(item)]
    if isinstance(part, dict):
        return [
            n for key, item in part.items() if key != "$literal" for n in outside_literals(item)
        ]
    return []


def times_in(part: Any) -> set[datetime]:
    """Every time that we wrote into a filter ourselves."""
    if isinstance(part, dict):
        return times_in(list(part.values()))
    if isinstance(part, list):
        return {at for item in part for at in times_in(item)}
    return {part} if isinstance(part, datetime) else set()


def hostile_ending(event: Event) -> Ending:
    job = a_job(attempts=1)
    error = PASSING.__class__(PASSING.code, "$input")
    result = "$input" if event is Event.SUCCEEDED else None
    return an_ending(job, event, error=error, result=result)


@pytest.mark.parametrize("event", sorted(ENDINGS))
def test_no_text_of_others_is_ever_read_as_a_field(event: Event) -> None:
    assert "$input" not in outside_literals(updates.end("$input", hostile_ending(event)))
    assert "$input" not in outside_literals(updates.claim("$input", "$input", 1))


def test_every_time_in_a_filter_is_the_servers() -> None:
    filters = (
        updates.claimable(JobRef.of(a_job()), "token"),
        updates.lapsed(),
        updates.due(),
        updates.overdue(),
        updates.unpublished(5),
    )
    for condition in filters:
        assert "$$NOW" in repr(condition)
        assert times_in(condition) <= {FAR}
