"""A stop signal that comes while a process is still importing what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.cli import ENDED_BY_SIGTERM

ROOT = Path(__file__).parents[3]
PROCESSES = [
    "ingress",
    "search_worker",
    "crawler_worker",
    "llm_worker",
    "webhook_worker",
    "reconciler",
]
SLOW = "import sys; print('importing', flush=True); sys.stdin.read()\n"


def environment(*folders: Path) -> dict[str, str]:
    paths = [str(ROOT / "services"), *map(str, folders)]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_imports_ends_the_process_at_once_and_well(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "slow_root.py").write_text(SLOW)
    command = [sys.executable, "-c", "from forebay.starting import start; start('x', 'slow_root')"]
    with subprocess.Popen(
        command, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        # Its standard input stays open, so nothing else ends it.
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("process", PROCESSES)
def test_nothing_that_costs_is_imported_before_the_signals_are_handled(process: str) -> None:
    look = f"import {process}.__main__, sys; print(*sorted(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", look], env=environment(), capture_output=True, text=True, check=True
    )
    assert not {"pydantic", "structlog", "asyncio", "aiohttp", f"{process}.app"} & set(
        ended.stdout.split()
    )


@pytest.mark.parametrize(
    "entry", [["-m", "forebay.cli"], ["-c", "from forebay.cli import main; main()"]]
)
def test_a_stop_during_the_imports_of_a_verb_ends_it_at_once_as_later(
    tmp_path: Path, entry: list[str]
) -> None:
    # In the place of the library, and found before it.
    (tmp_path / "typer.py").write_text(SLOW)
    command = [sys.executable, *entry, "version"]
    with subprocess.Popen(
        command, env=environment(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == ENDED_BY_SIGTERM == 143


def test_nothing_that_costs_is_imported_before_a_verb_handles_its_signal() -> None:
    look = "import forebay.cli, sys; print(*sorted(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", look], env=environment(), capture_output=True, text=True, check=True
    )
    costs = {"typer", "rich", "pydantic", "httpx", "asyncio", "forebay.cli.verbs"}
    assert not costs & set(ended.stdout.split())
