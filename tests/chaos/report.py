"""What the chaos tests saw, one row for each fault: on the screen and in `report.json`.

The file keeps the latest row of each test for the short and for the long form apart, each with its
own date, commit and seed, so that a part can be run again alone. A row of the long form that failed
on a commit stays, under `failed`, when the test is run again: no failure is run away.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPORT = Path(__file__).with_name("report.json")
ROOT = Path(__file__).parents[2]
WRITTEN = "tests/chaos/report.json", "tests/planted/report.json", "docs/reliability-report.md"


@dataclass
class Row:
    """One fault, injected several times."""

    fault: str
    """Of the table in docs/guarantees.md: `F5`."""
    what: str
    """The fault in words: `RabbitMQ killed`."""
    injected: int = 0
    """How often the fault was seen to happen."""
    survived: int = 0
    """Of these, after how many everything held."""
    void: int = 0
    """Tries in which the fault did not happen: they prove nothing."""
    jobs: int = 0
    """Jobs that were accepted meanwhile."""
    lost: int = 0
    """Of these, gone or without an end."""
    duplicates: int = 0
    """Second results, keys with two jobs, jobs called beyond their attempts."""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    """What else was measured, by name and with its unit in the name."""
    versions: dict[str, str] = field(default_factory=lambda: {"python": platform.python_version()})
    """What it ran on."""

    def top(self, figure: str, value: float) -> None:
        """Keep the largest value of a figure."""
        value = round(value, 3)
        self.figures[figure] = max(value, self.figures.get(figure, value))

    @property
    def held(self) -> bool:
        """Whether it was survived each time, and nothing was lost or happened twice."""
        return self.survived == self.injected > 0 and not (self.lost or self.duplicates)


@dataclass(frozen=True)
class Kept:
    """A row with where it comes from."""

    test: str
    passed: bool
    row: Row
    seed: int
    at: str
    commit: str

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Kept:
        """One of the file's."""
        return cls(**{**kept, "row": Row(**kept["row"])})

    @property
    def held(self) -> bool:
        """Whether the test passed, and its row says so too."""
        return self.passed and self.row.held

    @property
    def bound(self) -> str:
        """The rule of three: without a failure in n tries the rate is below 3/n (95 %)."""
        few = self.row.injected <= 3
        return "-" if few or not self.held else f"< {300 / self.row.injected:.2g} %"


def commit() -> str:
    """The commit of this checkout, marked when files differ from it, but for what tests write."""
    said = _git("describe", "--always", "--abbrev=10").stdout.strip()
    changed = _git("diff", "--quiet", "HEAD", "--", ".", *(f":!{path}" for path in WRITTEN))
    return (said or "unknown") + ("-dirty" if changed.returncode else "")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def keep(scale: str, fresh: Sequence[Kept], path: Path = REPORT) -> None:
    """Put these rows into the file in the place of earlier ones of the same tests."""
    report = json.loads(path.read_text()) if path.exists() else {}
    tests = {kept.test for kept in fresh}
    before = report.get(scale, [])
    old = [kept for kept in before if kept["test"] not in tests]
    if scale == "long":
        gone = [Kept.read(kept) for kept in before if kept["test"] in tests]
        # Where nothing was injected the test itself did not get that far: it says nothing.
        failed = [asdict(one) for one in gone if not one.held and one.row.injected]
        report.setdefault("failed", []).extend(failed)
    report[scale] = sorted([*old, *map(asdict, fresh)], key=_order)
    path.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")


def _order(kept: Mapping[str, Any]) -> tuple[int, str, str]:
    digits = "".join(c for c in kept["row"]["fault"].partition(" ")[0] if c.isdigit())
    return int(digits or 99), kept["test"], kept["row"]["what"]


def now() -> str:
    """The time of a row."""
    return datetime.now(UTC).isoformat(timespec="seconds")


COLUMNS = "fault", "what", "injected", "survived", "void", "jobs", "lost", "duplicates"


def cells_of(kept: Kept) -> tuple[str, ...]:
    """A row's cells, in the order of the columns."""
    return *(str(getattr(kept.row, name)) for name in COLUMNS), kept.bound


def table(rows: Sequence[Kept]) -> list[str]:
    """The table for the screen."""
    cells = [(*COLUMNS, "failure rate"), *map(cells_of, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    marks = ["", *("" if kept.held else "  FAILED" for kept in rows)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + mark
        for line, mark in zip(cells, marks, strict=True)
    ]
