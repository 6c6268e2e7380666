"""Structured log lines on stderr, one event name each."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from forebay.settings import LogFormat, TelemetrySettings
from forebay.telemetry.events import LogEvent

Logger = structlog.typing.FilteringBoundLogger


def configure_logging(settings: TelemetrySettings, process: str) -> Logger:
    """Set up the process's logging; the one logger to hand on, bound to the process's name."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # It tells of every lost connection with a traceback; so do our own events, in one line.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    render: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(file=sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    logger = logger.bind(process=process)
    # Libraries log through the standard library; only their warnings are news.
    libraries = [_Libraries(logger)]
    logging.basicConfig(level=max(level, logging.WARNING), handlers=libraries, force=True)
    return logger


class _Libraries(logging.Handler):
    """What libraries log, as lines like ours: whoever reads them expects nothing else."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            self._logger.log(
                # A level between two of the known ones is the lower one.
                min(record.levelno // 10 * 10, logging.CRITICAL),
                LogEvent.LIBRARY_WARNED,
                library=record.name,
                said=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 - a line less must not end what is logged about
            self.handleError(record)
