"""docs/lifecycle.md says what the table of transitions says."""

from __future__ import annotations

from forebay.jobs import JobState
from scripts.lifecycle_diagram import PAGE, with_diagram


def test_the_diagram_is_drawn_from_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_diagram(page), "run `make docs`"


def test_every_state_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [state for state in JobState if f"| `{state}` |" not in page]
    assert not missing
