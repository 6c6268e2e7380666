from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.unit.http.web import Site, running_site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


class _Connects:
    """Every address this process connects to; an audit hook cannot be taken off, so it is one."""

    def __init__(self) -> None:
        self.seen: list[Any] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.seen is not None:
            self.seen.append(arguments[1])


@pytest.fixture(scope="session")
def _audit() -> _Connects:
    return _Connects()


@pytest.fixture
def connects(_audit: _Connects) -> Iterator[list[Any]]:
    """The addresses connected to during the test."""
    _audit.seen = []
    yield _audit.seen
    _audit.seen = None
