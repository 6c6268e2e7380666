"""The reliability report says what the tests wrote down; each promise names tests that exist."""

from __future__ import annotations

import ast
import json
import re
from functools import cache

from scripts.reliability_report import CHAOS, PAGE, ROOT, with_report

GUARANTEES = ROOT / "docs" / "guarantees.md"
PROMISES = 17
FAULTS = {f"F{n}" for n in (*range(1, 4), *range(5, 16), *range(18, 24))}
"""Every one whose long form was run. F4 and F25 are those of webhooks, F24 came after the last."""


def test_the_report_is_made_from_what_the_tests_wrote_down() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_report(page), "run `make docs`"


def test_every_promise_has_a_limit_and_names_tests_that_are_there() -> None:
    _, _, rest = GUARANTEES.read_text().partition("| promise |")
    table, _, _ = rest.partition("\n\n")
    _, line, *rows = [[c.strip() for c in row.strip("|").split("|")] for row in table.splitlines()]
    assert line == ["---"] * 3
    assert len(rows) >= PROMISES
    for promise, limit, proof in rows:
        assert limit, f"without a limit: {promise}"
        named = re.findall(r"`(tests/[^`]+)`", proof)
        assert named, f"without a test: {promise}"
        assert [path for path in named if not (ROOT / path).exists()] == []


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
