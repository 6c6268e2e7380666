"""The table of transitions, from every state and for every event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import IllegalTransition
from forebay.jobs import (
    TERMINAL,
    TRANSITIONS,
    Event,
    Job,
    JobKind,
    JobState,
    Lane,
    expiry_error,
    first_state,
    sources,
    transition,
)

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def a_job(**changes: object) -> Job:
    job = Job(
        id="job_1",
        tenant="t",
        kind=JobKind.SEARCH,
        lane=Lane.DEFAULT,
        state=JobState.QUEUED,
        input="{}",
        created_at=NOW,
        max_attempts=3,
    )
    return job.evolve(**changes)


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", Event)
def test_a_step_is_in_the_table_or_raises_and_changes_nothing(
    state: JobState, event: Event
) -> None:
    job = a_job(state=state)
    if event in TRANSITIONS[state]:
        assert transition(state, event) is TRANSITIONS[state][event]
        return
    with pytest.raises(IllegalTransition, match=f"a {state} job cannot be '{event}'"):
        transition(job.state, event)
    assert job == a_job(state=state)


def test_terminal_is_final_except_for_a_replay_by_hand() -> None:
    for state in TERMINAL:
        assert TRANSITIONS[state] == {Event.REPLAYED: JobState.QUEUED}


def test_every_state_can_reach_a_terminal_one() -> None:
    reached = set(TERMINAL)
    while more := {
        state
        for state, steps in TRANSITIONS.items()
        if state not in reached and set(steps.values()) & reached
    }:
        reached |= more
    assert reached == set(JobState)


def test_every_state_is_reachable_from_a_new_job() -> None:
    reached = {JobState.SCHEDULED, JobState.QUEUED}
    while more := {to for state in reached for to in TRANSITIONS[state].values()} - reached:
        reached |= more
    assert reached == set(JobState)


def test_every_event_is_used() -> None:
    assert {event for steps in TRANSITIONS.values() for event in steps} == set(Event)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_no_history_of_events_leaves_a_terminal_state_except_by_replay(events: list[Event]) -> None:
    state = JobState.QUEUED
    for event in events:
        try:
            following = transition(state, event)
        except IllegalTransition:
            continue
        assert not state.terminal or event is Event.REPLAYED
        state = following


def test_sources_are_the_states_from_which_an_event_leads_there() -> None:
    assert sources(Event.CLAIMED, JobState.RUNNING) == {JobState.QUEUED, JobState.RETRYING}
    assert sources(Event.LEASE_LOST, JobState.CANCELED) == {JobState.CANCELING}
    assert sources(Event.DUE, JobState.RUNNING) == frozenset()


@pytest.mark.parametrize(
    ("not_before", "state"),
    [
        (None, JobState.QUEUED),
        (NOW, JobState.QUEUED),
        (NOW - timedelta(days=1), JobState.QUEUED),
        (NOW + timedelta(milliseconds=1), JobState.SCHEDULED),
    ],
)
def test_a_new_job_waits_only_if_its_time_is_to_come(
    not_before: datetime | None, state: JobState
) -> None:
    assert first_state(not_before, NOW) is state


def test_a_job_is_a_value_changed_by_evolving_it() -> None:
    job = a_job()
    with pytest.raises(AttributeError):
        job.state = JobState.FAILED  # type: ignore[misc]
    assert job.evolve(state=JobState.FAILED).done
    assert not job.done


@pytest.mark.parametrize(
    ("start_by", "deadline", "attempts", "passed"),
    [
        (1, None, 0, "start_by"),
        (1, 2, 0, "start_by"),
        (2, 1, 0, "deadline"),
        (1, 2, 1, "deadline"),
        (None, 1, 0, "deadline"),
    ],
)
def test_an_expired_job_names_the_limit_that_passed_first(
    start_by: int | None, deadline: int | None, attempts: int, passed: str
) -> None:
    limits = {
        name: NOW + timedelta(hours=hours)
        for name, hours in (("start_by", start_by), ("deadline", deadline))
        if hours is not None
    }
    assert f"`{passed}`" in expiry_error(a_job(attempts=attempts, **limits)).detail
