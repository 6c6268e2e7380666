"""The reliability report says what the tests wrote down; each promise names tests that exist."""

from __future__ import annotations

import re

from scripts.reliability_report import PAGE, ROOT, with_report

GUARANTEES = ROOT / "docs" / "guarantees.md"


def test_the_report_is_made_from_what_the_tests_wrote_down() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_report(page), "run `make docs`"


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| (.+) \| (.*) \| (.+) \|$", GUARANTEES.read_text(), re.MULTILINE)[2:]
    named = [re.findall(r"`(tests/[^`]+)`", proof) for _, _, proof in rows]
    assert all(named), "a promise without a test"
    missing = [path for paths in named for path in paths if not (ROOT / path).exists()]
    assert missing == []
