"""What libraries log stands in the log as our own lines do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
SPEAK = """
import logging
from forebay.settings import TelemetrySettings
from forebay.telemetry.logging import configure_logging

configure_logging(TelemetrySettings(log_level="{level}"), "a test")
library = logging.getLogger("some.library")
library.info("nobody needs this")
library.warning("it is %s\\nor so", "odd")
library.log(35, "between two levels")
try:
    raise OSError("no way")
except OSError:
    library.exception("it failed")
"""


def lines(level: str = "info") -> list[dict[str, Any]]:
    """Of a process of its own: logging is set up for a process as a whole."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "services")}
    command = [sys.executable, "-c", SPEAK.format(level=level)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=55, check=True)
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_a_library_s_warnings_are_lines_of_json_with_its_name() -> None:
    said = lines()
    common = {"event": "library.warned", "library": "some.library", "process": "a test"}
    assert all(common.items() <= line.items() for line in said)
    assert [(line["level"], line["said"]) for line in said] == [
        ("warning", "it is odd\nor so"),
        ("warning", "between two levels"),
        ("error", "it failed"),
    ]
    assert said[-1]["exception"].splitlines()[-1] == "OSError: no way"
    assert all(line["timestamp"].endswith("Z") for line in said)


def test_the_level_that_was_asked_for_holds_for_libraries_too() -> None:
    assert [line["said"] for line in lines("error")] == ["it failed"]
