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

from tests.chaos.report import COLUMNS, Kept, cells_of

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


def report(chaos_report: Path = CHAOS, planted_report: Path = PLANTED) -> str:
    """All tables."""
    chaos = _read(chaos_report) or {}
    kept = [Kept.read(one) for one in chaos.get("long", [])]
    failed = [Kept.read(one) for one in chaos.get("failed", [])]
    planted = _read(planted_report) or []
    parts = [_faults(kept), _figures(kept), _runs(kept)] if kept else [NOT_RUN_YET]
    if failed:
        parts.append(_failed(failed))
    return "\n\n".join([*parts, _planted(planted)] if planted else parts)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _faults(kept: Sequence[Kept]) -> str:
    head = (*COLUMNS, "failure rate", "held", "test")
    lines = [(*cells_of(one), "yes" if one.held else "**no**", _test(one.test)) for one in kept]
    return "## Faults\n\n" + _table(head, lines)


def _test(node: str) -> str:
    file, _, name = node.partition("::")
    return f"[{name}](../{file})"


def _figures(kept: Sequence[Kept]) -> str:
    lines = [
        (one.row.fault, one.row.what, name, _text(value))
        for one in kept
        for name, value in one.row.figures.items()
    ]
    return "## What else was measured\n\n" + _table(("fault", "what", "figure", "value"), lines)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


def _runs(kept: Sequence[Kept]) -> str:
    by_run: dict[tuple[str, ...], list[str]] = {}
    for one in kept:
        run = one.at[:10], one.commit, str(one.seed), _text(one.row.versions)
        by_run.setdefault(run, []).append(one.row.fault)
    rows = [(*run, ", ".join(dict.fromkeys(faults))) for run, faults in sorted(by_run.items())]
    return "## Runs\n\n" + _table(("day", "commit", "seed", "versions", "faults"), rows)


def _failed(failed: Sequence[Kept]) -> str:
    head = "day", "commit", *COLUMNS
    lines = [(one.at[:10], one.commit, *cells_of(one)[:-1]) for one in failed]
    said = "On the commit named; the table above has the run after what was mended."
    return f"## Earlier runs that did not hold\n\n{said}\n\n" + _table(head, lines)


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
