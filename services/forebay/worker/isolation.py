"""One suspect at a time: the worker's side of `forebay/store/suspects.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

FIRST_WAIT_S, LAST_WAIT_S = 1.0, 5.0
"""How long a suspect waits that finds another one running. With twenty of them that is seven looks
a second, each a few small operations of the store; with two of them, the place that is free again
stays empty for three seconds on average. Spread, so that none of them always comes too late."""


class Isolation:
    """The place for the one suspect of this process."""

    def __init__(self) -> None:
        self._taken = False

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Whether the place was free; then it is taken until the end of the block."""
        mine = not self._taken
        self._taken = True
        try:
            yield mine
        finally:
            if mine:
                self._taken = False


def wait_s(chance: float) -> float:
    """How long to wait for the place; `chance` is uniform in [0, 1)."""
    return FIRST_WAIT_S + chance * (LAST_WAIT_S - FIRST_WAIT_S)
