"""Structured log lines on stderr, one event name each."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from forebay.settings import LogFormat, TelemetrySettings

Logger = structlog.typing.FilteringBoundLogger


def configure_logging(settings: TelemetrySettings, process: str) -> Logger:
    """Set up the process's logging; the one logger to hand on, bound to the process's name."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Libraries log through the standard library; only their warnings are news.
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, force=True)
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
    return logger.bind(process=process)
