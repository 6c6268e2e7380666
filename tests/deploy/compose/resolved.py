"""compose.yaml as Compose itself reads it: anchors, defaults and durations resolved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
COMPOSE = Path(sys.executable).parent / "docker-compose"


def clean_environment(**settings: str) -> dict[str, str]:
    """Ours without anything that would change the file's defaults."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    return kept | settings


@cache
def resolved(settings: frozenset[tuple[str, str]] = frozenset()) -> str:
    """The whole file, all profiles, as JSON; with these variables where compose is run."""
    command = [str(COMPOSE), "--profile", "*", "config", "--format", "json"]
    env = clean_environment(**dict(settings))
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def compose(**settings: str) -> dict[str, Any]:
    """A fresh copy of it."""
    found: dict[str, Any] = json.loads(resolved(frozenset(settings.items())))
    return found
