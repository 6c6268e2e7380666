from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.jobs import JobKind, Lane
from forebay.pace import REMEMBER_S, Pace, Pacer, Waiting

BULK = (JobKind.SEARCH, Lane.BULK)
EVERY_S = 5.0


def paced(*looks: tuple[int, int], later: int = 0, oldest_s: float = 0.0) -> Pace:
    """After looks at how many wait and how many ended since the look before."""
    pacer, ended = Pacer(), 0
    for turn, (waiting, more) in enumerate(looks):
        ended += more
        paces = pacer.look(turn * EVERY_S, {BULK: Waiting(waiting, later, oldest_s)}, {BULK: ended})
    [pace] = paces
    return pace


def test_the_rate_is_what_ended_while_there_was_always_something_to_do() -> None:
    assert paced((1000, 0), (950, 50), (900, 50)).per_s == 10
    assert paced((1000, 0), (990, 10), (900, 90)).per_s == 10


def test_an_idle_time_says_nothing_of_what_the_workers_bear() -> None:
    """One job a second, each taken at once; then a burst. It must not be refused for that."""
    idle = [(0, 5)] * 12
    assert paced(*idle).per_s is None
    assert paced(*idle, (5000, 5)).free(3600) == inf
    assert paced(*idle, (5000, 5), (4000, 1000)).per_s == 200
    assert paced(*[(5, 5)] * 12).per_s is None


def test_jobs_that_wait_for_their_next_attempt_are_nothing_to_do() -> None:
    """A hundred retries in half an hour, and a job now and then: the workers stand idle."""
    idle = [(0, 1)] * 12
    assert paced(*idle, later=100).per_s is None
    assert paced(*idle, later=100).free(3600) == inf
    # But they come back, before who comes now.
    busy = paced((1000, 0), (950, 50), later=100)
    assert (busy.per_s, busy.waiting) == (10, 1050)


def test_workers_that_went_away_leave_the_rate_that_was_seen_last() -> None:
    busy = [(1000, 0), (950, 50), (900, 50)]
    assert paced(*busy, *[(900, 0)] * 6).per_s == 10
    away = [(900, 0)] * (int(REMEMBER_S / EVERY_S) + 1)
    assert paced(*busy, *away).per_s is None


def test_pauses_between_two_ends_count_as_time() -> None:
    """Slow calls: one end in a minute is not one in the five seconds in which it was seen."""
    assert paced((9, 0), (9, 1), (9, 0), (9, 0), (9, 0), (9, 1)).per_s == pytest.approx(2 / 25)


def test_when_nobody_knows_a_rate_the_age_of_the_oldest_decides() -> None:
    never_ended = [(100, 0)] * 3
    assert paced(*never_ended, oldest_s=3599).free(3600) == inf
    assert paced(*never_ended, oldest_s=3601).free(3600) == -inf
    # A rate is better than an age: workers that are back after a day work off what is old.
    assert paced((100, 0), (50, 50), oldest_s=86400).free(3600) == 10 * 3600 - 50


def test_a_count_that_began_anew_is_no_rate() -> None:
    pacer = Pacer()
    pacer.look(0, {BULK: Waiting(100)}, {BULK: 1_000_000})
    [pace] = pacer.look(5, {BULK: Waiting(100)}, {BULK: 3})
    assert pace.per_s is None


def test_the_first_look_says_nothing_and_queues_do_not_mix() -> None:
    pacer = Pacer()
    quick = (JobKind.SEARCH, Lane.INTERACTIVE)
    assert pacer.look(0, {BULK: Waiting(100)}, {}) == []
    paces = pacer.look(5, {BULK: Waiting(99)}, {BULK: 1, quick: 50})
    assert {pace.route: pace.per_s for pace in paces} == {BULK: 0.2, quick: None}


@given(
    per_s=st.floats(0.01, 1000),
    waiting=st.integers(0, 10**6),
    within_s=st.floats(1, 10**5),
)
def test_littles_law(per_s: float, waiting: int, within_s: float) -> None:
    """What is free is exactly what makes the last one wait the bound."""
    pace = Pace(*BULK, waiting=waiting, oldest_s=0, per_s=per_s)
    assert (waiting + pace.free(within_s)) / per_s == pytest.approx(within_s)
