from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.reliability_report import report
from tests.chaos.report import Kept, Row, keep, table

GOOD = Row("F5", "RabbitMQ killed", injected=30, survived=30, jobs=1000)


def kept(row: Row = GOOD, *, passed: bool = True, commit: str = "a1") -> Kept:
    return Kept(
        "tests/chaos/test_x.py::test_y", passed, row, 1, "2026-11-22T10:00:00+00:00", commit
    )


def test_a_rate_is_bounded_when_everything_held() -> None:
    assert kept().held
    assert kept().bound == "< 10 %"
    assert kept(replace(GOOD, injected=6389, survived=6389)).bound == "< 0.047 %"


@pytest.mark.parametrize(
    "one",
    [
        kept(passed=False),
        kept(replace(GOOD, lost=1)),
        kept(replace(GOOD, duplicates=1)),
        kept(replace(GOOD, survived=29)),
        kept(replace(GOOD, injected=0, survived=0)),
    ],
)
def test_what_did_not_hold_says_so_and_has_no_bound(one: Kept) -> None:
    assert not one.held
    assert one.bound == "-"
    assert "FAILED" in table([one])[1]


def test_three_tries_bound_nothing() -> None:
    assert kept(replace(GOOD, injected=3, survived=3)).bound == "-"


def test_a_test_that_is_run_again_takes_the_place_of_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    other = replace(kept(), test="tests/chaos/test_z.py::test_z")
    keep("long", [kept(commit="a1"), other], path)
    keep("long", [kept(commit="b2")], path)
    rows = json.loads(path.read_text())["long"]
    assert [(row["test"][-6:], row["commit"]) for row in rows] == [
        ("test_y", "b2"),
        ("test_z", "a1"),
    ]


def test_a_failure_of_the_long_form_is_not_run_away(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    keep("long", [kept(passed=False, commit="a1")], path)
    keep("long", [kept(commit="b2")], path)
    written = json.loads(path.read_text())
    assert [row["commit"] for row in written["failed"]] == ["a1"]
    assert [row["commit"] for row in written["long"]] == ["b2"]


def test_a_failure_before_anything_was_injected_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    keep("long", [kept(replace(GOOD, injected=0, survived=0), passed=False)], path)
    keep("long", [kept()], path)
    assert json.loads(path.read_text())["failed"] == []


def test_the_page_says_what_did_not_hold_then_and_now(tmp_path: Path) -> None:
    path, none = tmp_path / "report.json", tmp_path / "none.json"
    keep("long", [kept(replace(GOOD, lost=7), commit="a1")], path)
    assert "| - | **no** |" in report(path, none)
    keep("long", [kept(commit="b2")], path)
    page = report(path, none)
    assert "| < 10 % | yes |" in page
    assert "Earlier runs that did not hold" in page
    assert page.count("a1") == 1
