"""The reliability report says what the tests wrote down; each promise names tests that exist."""

from __future__ import annotations

import ast
import json
import re
from functools import cache

from scripts.reliability_report import CHAOS, PAGE, ROOT, with_report

GUARANTEES = ROOT / "docs" / "guarantees.md"
FAULTS = {f"F{n}" for n in (*range(1, 4), *range(5, 16), *range(18, 24))}
"""Every one that is injected. F4 and F25 are those of webhooks, F24 is one of overload."""


def test_the_report_is_made_from_what_the_tests_wrote_down() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_report(page), "run `make docs`"


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = re.findall(r"^\| (.+) \| (.*) \| (.+) \|$", GUARANTEES.read_text(), re.MULTILINE)[2:]
    named = [re.findall(r"`(tests/[^`]+)`", proof) for _, _, proof in rows]
    assert all(named), "a promise without a test"
    missing = [path for paths in named for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_the_report_has_every_fault_and_only_tests_that_are_there() -> None:
    kept = json.loads(CHAOS.read_text(encoding="utf-8")).get("long", [])
    assert not kept or {one["row"]["fault"] for one in kept} >= FAULTS
    gone = {one["test"] for one in kept if not _is_there(one["test"])}
    assert gone == set(), "rows of tests that are no more: take them out of the report"


def _is_there(node: str) -> bool:
    file, _, name = node.partition("::")
    return (ROOT / file).exists() and name.partition("[")[0] in _functions(file)


@cache
def _functions(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef, ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))
