"""Servers for the tests: one RabbitMQ and one MongoDB for the whole session, and one to break.

Everybody uses `amqp_url`, `management_url` and `mongodb_url`, each in a database or virtual host
of its own, so that the order of tests does not matter. Where they come from is chosen as for the
local stack (FOREBAY_SERVERS). Who stops, kills or freezes a server takes an `own_...` one.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from forebay.local.docker import why_docker_is_out
from forebay.local.mongodb import MongoServer
from forebay.local.ports import Ports
from forebay.local.servers import Servers
from forebay.local.servers import servers as started_servers

FIGURES = pytest.StashKey[list[str]]()
"""What the servers' start said and what tests measured; shown at the end of the run."""


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end of the run, whether the tests pass or not."""
    return request.config.stash.setdefault(FIGURES, [])


@pytest.fixture(scope="session")
async def servers(
    figures: list[str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Servers]:
    """The servers that all tests of a test process share. Nobody disturbs them."""
    directory = tmp_path_factory.mktemp("servers")
    async with started_servers(directory, speak=figures.append) as found:
        yield found
    _drop_data(directory / "rabbitmq", directory / "mongodb")


@pytest.fixture(scope="session")
def amqp_url(servers: Servers) -> str:
    """The shared broker's default virtual host, as an administrator."""
    return servers.amqp_url


@pytest.fixture(scope="session")
def management_url(servers: Servers) -> str:
    """The shared broker's management API, with user and password inside."""
    if not servers.management_url:
        pytest.skip("needs FOREBAY_RABBITMQ_MANAGEMENT_URL beside FOREBAY_AMQP_URL")
    return servers.management_url


@pytest.fixture(scope="session")
def mongodb_url(servers: Servers) -> str:
    """The shared store."""
    return servers.mongodb_url


@pytest.fixture(scope="session")
async def own_mongodb(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoServer]:
    """A store that a test may freeze and kill, if it leaves it running."""
    directory = tmp_path_factory.mktemp("own-mongodb")
    async with MongoServer(directory, Ports(_nobody)) as server:
        yield server
    _drop_data(directory)


def pytest_configure() -> None:
    """Be able to hear Ctrl-C, and with it every process that a test starts.

    A shell that runs something in the background tells it to ignore that, and children inherit it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much chance, and from which seed."""
    group = parser.getgroup("forebay")
    group.addoption(
        "--chaos",
        choices=("short", "long"),
        help="collect tests/chaos too, in its short or long form",
    )
    group.addoption("--seed", type=int, default=1, help="what the seeded tests draw from")
    group.addoption("--count", type=int, help="how often a fault is injected, how many wait")
    group.addoption(
        "--histories", type=int, default=300, help="how many histories tests/simulation plays"
    )
    group.addoption("--replay", type=int, help="play one history alone and print its trace")
    group.addoption(
        "--examples",
        type=int,
        default=0,
        help="how many examples tests/model and tests/schema try; 0: their usual",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Faults are injected when it is asked for: they take minutes, and the machine."""
    if collection_path == Path(__file__).with_name("chaos") and not config.getoption("--chaos"):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs Docker where there is none, and say why."""
    marked = [item for item in items if item.get_closest_marker("docker") is not None]
    out = why_docker_is_out() if marked else None
    for item in marked if out is not None else ():
        item.add_marker(pytest.mark.skip(reason=f"needs Docker: {out}"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test process hands its lines to the one that has the screen."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["figures"] = session.config.stash.get(FIGURES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the lines of a test process (pytest-xdist)."""
    lines = node.config.stash.setdefault(FIGURES, [])
    lines += getattr(node, "workeroutput", {}).get("figures", [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say on which servers the tests ran and what they measured."""
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


def _nobody(_: str) -> None:
    """Nobody reads which port was taken."""


def _drop_data(*directories: Path) -> None:
    """Some hundred megabytes each, which would be kept for three runs; the logs stay."""
    for directory in directories:
        shutil.rmtree(directory / "data", ignore_errors=True)
