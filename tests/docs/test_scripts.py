"""Every script of examples/ prints what its last comment says, against the whole system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.local.stack import Stack

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".sh"})
ID = re.compile(r"job_[0-9a-f]{32}")


def shown(script: Path) -> str:
    """What it says that it prints."""
    _, _, comment = script.read_text("utf-8").partition("\n# Prints:\n")
    return "".join(line.removeprefix("#   ") for line in comment.splitlines(keepends=True))


def printed(script: Path, url: str) -> str:
    command = [sys.executable, script] if script.suffix == ".py" else [script]
    env = os.environ | {"FOREBAY_URL": url, "PYTHONPATH": str(ROOT / "services")}
    env.pop("FOREBAY_API_KEY", None)
    done = subprocess.run(command, env=env, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_there_are_scripts_and_each_says_what_it_prints() -> None:
    assert len(SCRIPTS) >= 5
    assert [script.name for script in SCRIPTS if not shown(script)] == []


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_prints_what_it_says(script: Path, stack: Stack) -> None:
    assert ID.sub("ID", printed(script, stack.ingress_url)) == ID.sub("ID", shown(script))
