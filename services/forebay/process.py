"""How every process begins and ends: logging, signals, exit codes. One place, so that all agree.

Exit codes: 0 stopped as asked, 1 a part that must not end ended, 2 a setting is missing or wrong.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import stamina
import uvloop

from forebay import __version__
from forebay.crashpoints import arm
from forebay.errors import ConfigurationError, ForebayError
from forebay.settings import CrashSettings, TelemetrySettings, load
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger, configure_logging
from forebay.telemetry.metrics import Metrics


class StopSignals:
    """SIGTERM or SIGINT once asks to drain; a second one asks to end at once."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.end_now = asyncio.Event()

    def listen(self) -> None:
        """Take over both signals of the running loop."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.ask)

    def ask(self) -> None:
        """What a signal does."""
        if self.drain.is_set():
            self.end_now.set()
        self.drain.set()


@dataclass(frozen=True, slots=True)
class Process:
    """What a composition root gets: who it is, and how to speak, count and hear of the end."""

    name: str
    logger: Logger
    metrics: Metrics = field(default_factory=Metrics)
    signals: StopSignals = field(default_factory=StopSignals)


Main = Callable[[Process], Awaitable[None]]


def run(name: str, main: Main) -> None:
    """Run a process's composition root to its end and exit with the code that says how it went."""
    try:
        logger = configure_logging(load(TelemetrySettings), name)
        _arm(load(CrashSettings), logger)
        uvloop.run(_run(Process(name, logger), main))
    except ConfigurationError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)
    except ForebayError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(1)


def _arm(told: CrashSettings, logger: Logger) -> None:
    if told.crashpoint is not None:
        try:
            arm(told.crashpoint, told.crashpoint_log)
        except ValueError as error:
            raise ConfigurationError(f"FOREBAY_CRASHPOINT: {error}") from None
        logger.warning(LogEvent.ARMED, crashpoint=told.crashpoint)


async def _run(process: Process, main: Main) -> None:
    process.signals.listen()
    stamina.instrumentation.set_on_retry_hooks([_log_retries(process.logger)])
    # What is imported by now lives as long as the process: spare the collector from walking it.
    gc.freeze()
    # And what lives while thousands of requests are under way: with the usual thresholds
    # (700, 10, 10) an overloaded ingress was seen to stand still for half a second each time.
    gc.set_threshold(10_000, 10, 10)
    process.logger.info(LogEvent.PROCESS_STARTED, version=__version__)
    await main(process)
    process.logger.info(LogEvent.PROCESS_STOPPED)


def _log_retries(logger: Logger) -> stamina.instrumentation.RetryHook:
    def hook(details: stamina.instrumentation.RetryDetails) -> None:
        logger.warning(
            LogEvent.STORE_RETRIED,
            operation=details.name.rpartition(".")[2].lstrip("_"),
            attempt=details.retry_num,
            wait_s=round(details.wait_for, 3),
            error=str(details.caused_by),
        )

    return hook
