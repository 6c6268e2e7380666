"""The words of MongoDB's query language that filters and updates are made of.

Time is the server's, `$$NOW`: no clock of ours is ever compared with a stored time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from forebay.jobs import JobState
from forebay.store.documents import Document

NOW = "$$NOW"
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


def in_states(states: Collection[JobState]) -> Document:
    """The filter of these states."""
    return {"state": {"$in": values(states)}}


def passed(field: str) -> Document:
    """The filter of a time that is set and has come; MongoDB can use an index for it."""
    return {field: {"$type": "date"}, "$expr": {"$lte": [f"${field}", NOW]}}


def has_passed(field: str) -> Document:
    """Whether a time has come; one that is not set never does."""
    return {"$lte": [{"$ifNull": [f"${field}", _FAR]}, NOW]}


def has_come(field: str) -> Document:
    """Whether a time has come; one that is not set is always here."""
    return {"$lte": [{"$ifNull": [f"${field}", NOW]}, NOW]}


def is_in(states: Collection[JobState]) -> Document:
    """Whether the job's state is one of these."""
    return {"$in": ["$state", values(states)]}


def not_in(states: Collection[JobState]) -> Document:
    """Whether the job's state is none of these."""
    return negated(is_in(states))


def values(states: Iterable[JobState]) -> list[str]:
    """States as the documents hold them."""
    return sorted(state.value for state in states)


def all_of(*conditions: Document) -> Document:
    """Whether all hold."""
    return {"$and": list(conditions)}


def any_of(*conditions: Document) -> Document:
    """Whether one holds at least."""
    return {"$or": list(conditions)}


def negated(condition: Document) -> Document:
    """Whether it does not hold."""
    return {"$not": [condition]}


def switch(branches: Iterable[tuple[Document, Any]], default: Any) -> Document:
    """The value of the first branch whose condition holds."""
    return {
        "$switch": {
            "branches": [{"case": case, "then": then} for case, then in branches],
            "default": default,
        }
    }


def literal(value: object) -> Document:
    """A value as it is: a string that begins with `$` would be taken for a field's name."""
    return {"$literal": value}


def from_now(seconds: float) -> Document:
    """That many seconds from the server's now."""
    return {"$add": [NOW, ms(seconds)]}


def ms(seconds: float) -> int:
    """Whole milliseconds."""
    return round(seconds * 1000)
