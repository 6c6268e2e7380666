"""How verbs show what they did."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def wide(header: str) -> Column:
    """A column that folds what does not fit: a name cut short is no name."""
    return Column(header, overflow="fold")


def say_json(value: Any) -> None:
    """For programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def show_fields(rows: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line; what is not there is left out."""
    grid = Table.grid(Column(), wide(""), padding=(0, 2))
    for name, value in rows:
        if value is not None and value != "":
            # Text: what a caller or a provider said is no markup.
            grid.add_row(name, Text(str(value)))
    Console(highlight=False).print(grid)


def show_rows(*headers: str, rows: Iterable[Iterable[str]], folding: int = 1) -> None:
    """A table without lines, to be read and to be cut to pieces; only the last columns fold."""
    columns = [
        *(Column(header, no_wrap=True) for header in headers[:-folding]),
        *(wide(header) for header in headers[-folding:]),
    ]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def age(moment: datetime | None) -> str:
    """How long ago, in the largest unit that fits."""
    if moment is None:
        return ""
    seconds = max(int((datetime.now(UTC) - moment).total_seconds()), 0)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
