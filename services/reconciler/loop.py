"""An endless loop with a name: it survives its own failures and has no step "once at the start"."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from forebay.errors import ForebayError
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics

Turn = Callable[[], Awaitable[bool]]
"""One turn of work; True when there is more to do at once."""


def loop_time() -> float:
    """The event loop's clock, in seconds that only grow: in a simulation its virtual time."""
    return asyncio.get_running_loop().time()


async def run_loop(name: str, turn: Turn, every_s: float, metrics: Metrics, logger: Logger) -> None:
    """Turn for ever: at once while there is more to do, else every `every_s` seconds.

    A turn that fails is logged and counted, and the next one comes: a store that restarts in the
    middle of a turn costs that turn and nothing else.
    """
    while True:
        more = await _guarded(name, turn, metrics, logger)
        if not more:
            await asyncio.sleep(every_s)


async def _guarded(name: str, turn: Turn, metrics: Metrics, logger: Logger) -> bool:
    try:
        more = await turn()
    except ForebayError as error:
        logger.warning(LogEvent.LOOP_FAILED, loop=name, error=str(error))
    except Exception:
        logger.exception(LogEvent.LOOP_FAILED, loop=name)
    else:
        metrics.loop_turns.labels(name, "ok").inc()
        return more
    metrics.loop_turns.labels(name, "failed").inc()
    return False
