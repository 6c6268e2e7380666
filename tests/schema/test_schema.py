"""What the description of the API allows is answered as it says; all else is refused.

`pytest tests/schema --examples=200` tries 200 examples of each operation, with every phase and
check of schemathesis (20 minutes); without the option a few of those that need no large bodies.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ingress_process import ROOT, environment, free_port
from tests.schema.memory_ingress import TOKEN

SOME = 4
"""Examples of each operation, when nobody says how many."""
QUICK = ("examples", "fuzzing")
"""Without the corner cases of each field and of each length: 3 000 requests, some of megabytes."""
WHOLE = ("examples", "coverage", "fuzzing")
WALKS = 10
"""Tries of a walk for each example: of most nothing comes, because nothing is there to go on to."""
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


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    log = tmp_path / "ingress.log"
    with served(log) as url:
        yield url
    assert not [line for line in log.read_text().splitlines() if "request.failed" in line]


@dataclass
class Schemathesis:
    """Tries out what is served, and says what it did."""

    url: str
    seed: int
    directory: Path

    def tries(self, phases: Sequence[str], examples: int) -> str:
        tried = subprocess.run(
            [
                *(Path(sys.executable).with_name("st"), "run", f"{self.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--checks", "all", "--continue-on-failure", "--wait-for-schema", "60"),
                *("--phases", ",".join(phases), "--max-examples", str(examples)),
                *("--request-timeout", "60", "--seed", str(self.seed), "--no-color"),
            ],
            env=environment() | {"SCHEMATHESIS_HOOKS": "tests.schema.hooks"},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MOST_S,
            check=False,
        )
        assert tried.returncode == 0, tried.stdout
        assert "Hook Error" not in tried.stdout
        said = re.findall(r"^.*(?:generated|API Links:).*$", tried.stdout, re.MULTILINE)
        return ", ".join(line.strip() for line in said)


@pytest.fixture
def schemathesis(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Schemathesis:
    return Schemathesis(url, request.config.getoption("--seed"), tmp_path)


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--examples"))


@pytest.mark.timeout(MOST_S)
def test_every_answer_is_as_the_description_says(
    schemathesis: Schemathesis, examples: int, figures: list[str]
) -> None:
    said = schemathesis.tries(WHOLE if examples else QUICK, examples or SOME)
    figures.append(f"schemathesis, each operation: {said}")


@pytest.mark.timeout(MOST_S)
def test_whoever_goes_on_with_what_was_answered_is_answered_as_described(
    schemathesis: Schemathesis, examples: int, figures: list[str]
) -> None:
    """From a receipt to its job, its result, its end, and to what is there no more."""
    said = schemathesis.tries(["stateful"], WALKS * (examples or SOME))
    figures.append(f"schemathesis, from one operation to the next: {said}")
