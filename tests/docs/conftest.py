"""One whole system for everything that is shown: pages, examples, the callers' verbs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.local.environment import World
from forebay.local.stack import Stack


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    # What a page shows is what happens when no provider fails: three calls in a hundred would.
    shown = tmp_path_factory.mktemp("shown")
    async with Stack(shown, world=World("steady")) as running:
        yield running


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those that need the system next to each other: one test process then starts it, once.

    They are marked as what they are, so that `make check` can leave them to `make test`.
    """
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    needing = [item for item in here if "stack" in getattr(item, "fixturenames", ())]
    for item in needing:
        item.add_marker(pytest.mark.e2e)
    if needing:
        first = items.index(needing[0])
        items[first:] = needing + [item for item in items[first:] if item not in needing]
