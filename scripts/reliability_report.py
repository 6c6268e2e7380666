"""Write docs/reliability-report.md from the last long chaos run's figures; `make docs` runs it.

The page's tables stand between two markers and are made from tests/chaos/report.json and
tests/planted/report.json alone, so no figure can be written by hand. A test fails when the page is
behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability-report.md"
CHAOS = ROOT / "tests" / "chaos" / "report.json"
PLANTED = ROOT / "tests" / "planted" / "report.json"
NOT_RUN_YET = "The long form was not run on this version yet."
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"


def with_report(page: str) -> str:
    """The page with the tables of the present reports between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{report()}\n{END}{after}"


def report() -> str:
    """All tables."""
    kept = (_read(CHAOS) or {}).get("long", [])
    planted = _read(PLANTED) or []
    parts = [_faults(kept), _figures(kept), _runs(kept)] if kept else [NOT_RUN_YET]
    return "\n\n".join([*parts, _planted(planted)] if planted else parts)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _faults(kept: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "fault", "what", "injected", "survived", "void", "jobs", "lost", "duplicates",
        "failure rate", "test",
    )  # fmt: skip
    lines = []
    for one in kept:
        row = one["row"]
        names = head[:8]
        lines.append((*(str(row[name]) for name in names), _bound(row), _test(one["test"])))
    return "## Faults\n\n" + _table(head, lines)


def _bound(row: Mapping[str, Any]) -> str:
    """The rule of three: no failure in n tries bounds the rate by 3/n, with 95 % confidence."""
    if row["injected"] <= 3 or row["survived"] < row["injected"]:
        return "not bounded"
    return f"< {3 / row['injected']:.1%}"


def _test(node: str) -> str:
    file, _, name = node.partition("::")
    return f"[{name}](../{file})"


def _figures(kept: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (one["row"]["fault"], one["row"]["what"], name, _text(value))
        for one in kept
        for name, value in one["row"]["figures"].items()
    ]
    return "## What else was measured\n\n" + _table(("fault", "what", "figure", "value"), lines)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


def _runs(kept: Sequence[Mapping[str, Any]]) -> str:
    lines = sorted(
        {
            (
                one["at"][:10],
                one["commit"],
                str(one["seed"]),
                _text(one["row"]["versions"]),
                one["row"]["fault"],
            )
            for one in kept
        }
    )
    by_run: dict[tuple[str, ...], list[str]] = {}
    for *run, fault in lines:
        by_run.setdefault(tuple(run), []).append(fault)
    rows = [(*run, ", ".join(faults)) for run, faults in by_run.items()]
    return "## Runs\n\n" + _table(("day", "commit", "seed", "versions", "faults"), rows)


def _planted(planted: Sequence[Mapping[str, Any]]) -> str:
    names = ("bug", "breaks", "found_by", "seconds")
    lines = [tuple(_text(bug[name]) for name in names) for bug in planted]
    return "## Planted bugs\n\n" + _table(("bug", "breaks", "found by", "seconds"), lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_report(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is written\n")


if __name__ == "__main__":
    main()
