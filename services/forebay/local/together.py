"""Things done at once, of which one may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from forebay.local.errors import LocalStackError


async def together(*work: Coroutine[None, None, None]) -> None:
    """Wait for all; the first `LocalStackError` cancels the others and is raised as itself."""
    failures: list[LocalStackError] = []
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except* LocalStackError as failed:
        failures += _leaves(failed)
    # Not inside `except*`, which would wrap it into a group again.
    if failures:
        raise failures[0]


def _leaves(group: BaseExceptionGroup[LocalStackError]) -> list[LocalStackError]:
    found: list[LocalStackError] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
