from __future__ import annotations

import itertools
from contextlib import ExitStack

import pytest

from webhook_worker.receivers import LONGEST_WAIT_S, SHORTEST_WAIT_S, Receivers

SLOW, OTHER = "https://slow.example.com/hook", "https://other.example.com/hook"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_receiver_has_its_places_and_the_others_have_theirs(clock: Clock) -> None:
    receivers = Receivers(2, clock)
    with ExitStack() as stack:
        assert [stack.enter_context(receivers.place(SLOW)) for _ in range(2)] == [0.0, 0.0]
        assert stack.enter_context(receivers.place(SLOW)) > 0
        assert stack.enter_context(receivers.place("https://slow.example.com:443/else")) > 0
        assert stack.enter_context(receivers.place(OTHER)) == 0.0
        assert stack.enter_context(receivers.place("https://slow.example.com:8443/")) == 0.0
    with receivers.place(SLOW) as wait_s:
        assert wait_s == 0.0, "places are given back"


def test_a_place_is_given_back_by_who_fails_and_not_by_who_had_none(clock: Clock) -> None:
    receivers = Receivers(1, clock)
    with pytest.raises(RuntimeError), receivers.place(SLOW):
        raise RuntimeError
    with receivers.place(SLOW) as first:
        for _ in range(3):
            with receivers.place(SLOW) as then:
                assert then > 0
        assert first == 0.0


def test_who_waits_comes_back_one_after_the_other(clock: Clock) -> None:
    receivers = Receivers(2, clock)
    for _ in range(100):
        with receivers.place(SLOW):
            clock.now += 15.0
    with receivers.place(SLOW), receivers.place(SLOW):
        turns = []
        for _ in range(10):
            with receivers.place(SLOW) as wait_s:
                turns.append(wait_s)
    apart = [later - earlier for earlier, later in itertools.pairwise(turns)]
    assert turns[0] >= SHORTEST_WAIT_S
    assert apart == pytest.approx([7.5] * 9, rel=0.01)


def test_nobody_waits_for_ever(clock: Clock) -> None:
    receivers = Receivers(1, clock)
    for _ in range(100):
        with receivers.place(SLOW):
            clock.now += 15.0
    with receivers.place(SLOW):
        for _ in range(1000):
            with receivers.place(SLOW) as wait_s:
                assert SHORTEST_WAIT_S <= wait_s <= LONGEST_WAIT_S


def test_receivers_that_nobody_calls_are_forgotten(clock: Clock) -> None:
    receivers = Receivers(1, clock)
    with receivers.place(SLOW):
        for n in range(5000):
            clock.now += 1
            with receivers.place(f"https://{n}.example.com/"):
                pass
        assert len(receivers._receivers) < 2000
        with receivers.place(SLOW) as wait_s:
            assert wait_s > 0, "it is still busy"
