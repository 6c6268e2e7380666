"""Histories of the whole system on a virtual clock, each from a seed.

pytest tests/simulation --histories=5000 --seed=7    so many; prints what was injected
pytest tests/simulation --replay=7000042             one, with its trace
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .history import play
from .many import play_many

ROOT = Path(__file__).parents[2]
REPLAYED = range(7)


@pytest.mark.timeout(3600)
def test_no_history_breaks_a_promise(
    request: pytest.FixtureRequest, figures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    option = request.config.getoption
    if (seed := option("--replay")) is not None:
        history = play(seed)
        with capsys.disabled():
            print("", *history.trace, history.fingerprint, sep="\n")  # noqa: T201
        assert not history.violations
        return
    tally = play_many(option("--seed"), option("--histories"), first_failure=option("maxfail") == 1)
    figures += [f"simulation, seed {option('--seed')}", *tally.lines()]
    assert not tally.violations, "\n".join(tally.lines())
    assert tally.void <= tally.histories / 100


@pytest.mark.timeout(300)
def test_a_seed_plays_exactly_the_same_again_in_another_process() -> None:
    here = [f"FINGERPRINT {seed} {play(seed).fingerprint}" for seed in REPLAYED]
    assert _fingerprints("1") == here
    assert _fingerprints("77") == here


@pytest.mark.timeout(300)
def test_without_faults_no_lease_and_no_dead_letter_is_lost_however_long_the_calls_are() -> None:
    histories = [play(seed, faults=False) for seed in range(30)]
    assert sum(history.injected["provider: slow"] for history in histories) > 10
    assert [history.violations for history in histories if history.violations] == []
    assert sum(history.leases_lost for history in histories) == 0
    assert sum(history.letters for history in histories) > 0


def test_another_seed_is_another_history() -> None:
    assert play(1).fingerprint != play(2).fingerprint


def _fingerprints(hash_seed: str) -> list[str]:
    """From a fresh process, in which texts have other hashes and objects other addresses."""
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT / 'services'}:{ROOT}"}
    played = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *map(str, REPLAYED)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in played.stdout.splitlines() if line.startswith("FINGERPRINT")]
