"""Faults, injected into real processes on real servers; `--chaos=short` or `--chaos=long`.

A test asks for `rows` and makes one row for each fault. It counts what it injected and what it saw
to hold; the row is kept when the test fails, too.

The short form runs in two processes: most of a test is waiting. Who measures times that callers are
promised is marked `alone` and has the machine for itself.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict

import pytest

from .report import ROOT, Kept, Row, commit, keep, now, table

KEPT = pytest.StashKey[list[Kept]]()
PROPERTY = "chaos"
"""What a kept row is called in a test's report, in which it comes from the process that ran it."""
PASSED = pytest.StashKey[bool]()

Rows = Callable[..., Row]


class _Collector:
    """Takes the rows out of the reports."""

    def __init__(self, kept: list[Kept]) -> None:
        self._kept = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._kept += [
                Kept.read(value) for name, value in report.user_properties if name == PROPERTY
            ]


def pytest_configure(config: pytest.Config) -> None:
    kept = config.stash[KEPT] = []
    config.pluginmanager.register(_Collector(kept))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Who is `alone` waits for the others, and nobody who comes later passes him by."""
    locks = ROOT / ".run"
    locks.mkdir(exist_ok=True)
    alone = item.get_closest_marker("alone") is not None
    with (locks / "chaos.door").open("w") as door, (locks / "chaos.machine").open("w") as machine:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of the short form what means nothing when it is short, and say why."""
    if config.getoption("--chaos") == "long":
        return
    for item in items:
        for mark in item.iter_markers("long_only"):
            item.add_marker(pytest.mark.skip(reason=f"in the long form only: {mark.args[0]}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture(scope="session", autouse=True)
def private_servers() -> Iterator[None]:
    """These tests kill and freeze the servers, so they need private ones of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_SERVERS", "machine")
        yield


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this is the long form."""
    return request.config.getoption("--chaos") == "long"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What chance is drawn from."""
    return request.config.getoption("--seed")


@pytest.fixture
def rows(request: pytest.FixtureRequest, seed: int) -> Iterator[Rows]:
    """Makes the test's rows: `rows("F5", "RabbitMQ killed")`."""
    made: list[Row] = []
    began = time.monotonic()

    def row(fault: str, what: str) -> Row:
        made.append(Row(fault, what))
        return made[-1]

    yield row
    passed = request.node.stash.get(PASSED, False)
    seconds = round((time.monotonic() - began) / max(len(made), 1), 1)
    for one in made:
        one.seconds = one.seconds or seconds
        kept = Kept(request.node.nodeid, passed, one, seed, now(), commit())
        request.node.user_properties.append((PROPERTY, asdict(kept)))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, write the report."""
    kept, scale = config.stash[KEPT], config.getoption("--chaos")
    if kept and scale:
        keep(scale, kept)
        terminalreporter.section(f"chaos, seed {config.getoption('--seed')}")
        for line in table(kept):
            terminalreporter.write_line(line)
