"""Histories of the whole system on a virtual clock, each from a seed.

pytest tests/simulation --histories=5000 --seed=7    so many; prints what was injected
pytest tests/simulation --replay=7000042             one, with its trace
"""

from __future__ import annotations

import pytest

from .many import Tally

TALLIES = pytest.StashKey[list[Tally]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLIES] = []


@pytest.fixture
def tallies(request: pytest.FixtureRequest) -> list[Tally]:
    """What is shown at the end of the run."""
    return request.config.stash[TALLIES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was played."""
    for tally in config.stash.get(TALLIES, []):
        terminalreporter.section(f"simulation, seed {config.getoption('--seed')}")
        for line in tally.lines():
            terminalreporter.write_line(line)
