"""When it is said that the store is lost or found."""

from __future__ import annotations

from forebay.store.presence import Presence
from tests.broker_world import Log


class Told:
    """A presence with a clock of its own, and what it said."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = Log()
        self.presence = Presence("db:27017", self.log.logger, lambda: self.now)

    def lost(self, *, began: float, at: float) -> None:
        self.now = at
        self.presence.lost(began, "nobody listens there")

    def found(self, *, began: float, at: float) -> None:
        self.now = at
        self.presence.found(began)

    @property
    def events(self) -> list[str]:
        return self.log.events()


def test_a_change_is_said_once_with_where_and_why_and_how_long() -> None:
    told = Told()
    told.lost(began=1, at=2)
    told.lost(began=2, at=3)
    told.found(began=7, at=8)
    told.found(began=8, at=9)
    lost, found = told.log.lines
    assert (lost["event"], lost["hosts"]) == ("store.lost", "db:27017")
    assert lost["reason"] == "nobody listens there"
    assert (found["event"], found["hosts"], found["away_s"]) == ("store.found", "db:27017", 6)


def test_a_store_that_was_never_lost_is_not_found() -> None:
    told = Told()
    told.found(began=1, at=2)
    assert told.events == []


def test_a_call_that_began_before_a_change_does_not_undo_it() -> None:
    told = Told()
    told.lost(began=1, at=5)
    told.found(began=4, at=6)
    assert told.events == ["store.lost"]
    told.found(began=6, at=7)
    told.lost(began=2, at=8)
    assert told.events == ["store.lost", "store.found"]
    told.lost(began=8, at=9)
    assert told.events == ["store.lost", "store.found", "store.lost"]


def test_without_a_logger_it_says_nothing() -> None:
    presence = Presence("db:27017", None)
    presence.lost(1e12, "gone")
    presence.found(1e12)
