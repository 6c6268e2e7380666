"""How verbs show what they did."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def wide(header: str) -> Column:
    """A column that folds what does not fit: a name cut short is no name."""
    return Column(header, overflow="fold")
