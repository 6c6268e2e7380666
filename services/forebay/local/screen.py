"""What the local stack says to a person: plain short lines, at once."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def say(line: str) -> None:
    """Print one line now, also into a pipe."""
    print(line, flush=True)
