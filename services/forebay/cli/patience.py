"""Running a verb, and waiting for the servers it speaks to: in a cluster all start at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import stamina
import typer

from forebay.errors import BrokerUnavailable, ClusterUnavailable, StoreUnavailable

Answer = TypeVar("Answer")

Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="SECONDS", help="How long to try again while nobody answers."
    ),
]
_PASSING = (BrokerUnavailable, StoreUnavailable, ClusterUnavailable)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


def run_patiently(attempt: Callable[[], Awaitable[Answer]], wait_s: float) -> Answer:
    """Run it, again and again for `wait_s` seconds while it fails for what will pass.

    Raises the last of those errors, saying how long was waited. SIGTERM cancels it: as the first
    process of a container it would not end by itself.
    """
    return asyncio.run(_run(attempt, wait_s))


async def _run(attempt: Callable[[], Awaitable[Answer]], wait_s: float) -> Answer:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- a coroutine runs in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if wait_s <= 0:
        return await attempt()
    stamina.instrumentation.set_on_retry_hooks([_say])
    caller = stamina.AsyncRetryingCaller(
        attempts=None, timeout=wait_s, wait_initial=_FIRST_PAUSE_S, wait_max=_LONGEST_PAUSE_S
    )
    try:
        return await caller(_PASSING, attempt)
    except _PASSING as error:
        raise type(error)(f"waited {wait_s:g} s in vain: {error}") from error


def _say(details: stamina.instrumentation.RetryDetails) -> None:
    sys.stderr.write(f"forebay: waiting: {details.caused_by}\n")
    sys.stderr.flush()
