"""What the description of the API allows is answered as it says; all else is refused.

`pytest tests/schema --examples=200` tries 200 examples of each operation, with every phase and
check of schemathesis; without the option a few of those that need no large bodies.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ingress_process import ROOT, environment, free_port
from tests.schema.memory_ingress import TOKEN

SOME = 4
"""Examples of each operation, when nobody says how many."""
QUICK = ("--phases", "examples,fuzzing,stateful")
"""Without the corner cases of each field and of each length: 3 000 requests, some of megabytes."""
MOST_S = 3600


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The address of the application on the shipped fakes, in a process of its own."""
    port = free_port()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "tests.schema.memory_ingress", str(port)],
            env=environment(),
            cwd=ROOT,
            stderr=output,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


@pytest.mark.timeout(MOST_S)
def test_every_answer_is_as_the_description_says(
    tmp_path: Path, request: pytest.FixtureRequest, figures: list[str]
) -> None:
    examples: int = request.config.getoption("--examples")
    with served(tmp_path / "ingress.log") as url:
        tried = subprocess.run(
            [
                *(Path(sys.executable).with_name("st"), "run", f"{url}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--checks", "all", "--continue-on-failure", "--wait-for-schema", "60"),
                *("--max-examples", str(examples or SOME), "--request-timeout", "60"),
                *("--seed", str(request.config.getoption("--seed")), "--no-color"),
                *(() if examples else QUICK),
            ],
            env=environment() | {"SCHEMATHESIS_HOOKS": "tests.schema.hooks"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MOST_S,
            check=False,
        )
    assert tried.returncode == 0, tried.stdout
    assert "Hook Error" not in tried.stdout
    summary = [line.strip() for line in tried.stdout.splitlines() if "generated" in line]
    figures.append(f"schemathesis: {', '.join(summary)}; all of them as described")
    defects = [
        line
        for line in (tmp_path / "ingress.log").read_text().splitlines()
        if "request.failed" in line
    ]
    assert not defects
