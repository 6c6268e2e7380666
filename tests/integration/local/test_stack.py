from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.local.environment import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_NAMES = {"providers", "ingress", "reconciler"} | {
    f"{word}_worker" for word in ("search", "crawler", "llm", "webhook")
}


class Up:
    """A `make up` of its own directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = _start(directory, subprocess.PIPE)
        self.said: list[str] = []

    def until(self, words: str) -> str:
        """Read what it says up to a line with these words."""
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            self.said.append(raw.decode())
            if words in self.said[-1]:
                return self.said[-1]
        pytest.fail(f"it ended without saying {words!r}: {''.join(self.said)}")

    def read(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())


def _start(directory: Path, stdout: int) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT / "services"), str(ROOT)])
    command = [sys.executable, "-m", "forebay.local", "up", "--directory", str(directory)]
    # Whose servers they are is seen in the processes: those of the machine are our children.
    env = os.environ | {"PYTHONPATH": paths, "FOREBAY_SERVERS": "machine"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=stdout, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    try:
        running.until("Ctrl-C ends it.")
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


async def _submit(up: Up) -> str:
    ingress = up.read("endpoints.json")["ingress"]
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{ingress}/v1/search", json={"query": "dams"}) as answer:
            assert answer.status == 202
            job = (await answer.json())["id"]
        async with session.get(f"{ingress}/v1/jobs/{job}", params={"wait": "20"}) as answer:
            return str((await answer.json())["state"])


async def test_what_is_up_takes_a_job_to_its_end(up: Up):
    assert await _submit(up) == "succeeded"


def test_the_files_say_where_everything_is_and_only_their_owner_reads_them(up: Up):
    endpoints = up.read("endpoints.json")
    assert set(endpoints) == {
        *("ingress", "amqp", "mongodb", "providers", "site", "rabbitmq_management", "probes")
    }
    assert set(endpoints["rabbitmq_management"]) == {"url", "user", "password"}
    assert (up.directory / "endpoints.json").stat().st_mode & 0o077 == 0
    processes = up.read("processes.json")
    assert set(processes) == _NAMES
    for pids in processes.values():
        for pid in pids:
            os.kill(pid, 0)


def test_a_second_run_in_the_same_place_says_that_it_is_up_and_exits_2(up: Up):
    second = _start(up.directory, subprocess.PIPE)
    said, _ = second.communicate()
    assert second.returncode == 2
    assert f"already up (process {up.process.pid})" in said.decode()


async def test_a_killed_worker_is_restarted_and_goes_on_working(up: Up):
    (pid,) = up.read("processes.json")["search_worker"]
    os.kill(pid, signal.SIGKILL)
    assert "search_worker ended (SIGKILL)" in up.until("search_worker ended")
    up.until("search_worker runs again")
    assert up.read("processes.json")["search_worker"] != [pid]
    assert await _submit(up) == "succeeded"


async def test_a_killed_broker_is_started_again_and_what_waited_is_done(up: Up):
    (pid,) = _brokers(up.process.pid)
    os.kill(pid, signal.SIGKILL)
    assert "RabbitMQ ended (SIGKILL)" in up.until("RabbitMQ ended")
    up.until("RabbitMQ is back.")
    assert await _submit(up) == "succeeded"


def _brokers(parent: int) -> list[int]:
    return [
        pid
        for pid in _descendants(parent)
        if "beam.smp" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    ]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_however_it_ends_nothing_is_left_running(tmp_path: Path, ending: signal.Signals):
    up = Up(tmp_path)
    up.until("Ctrl-C ends it.")
    pids = _descendants(up.process.pid)
    assert len(pids) >= len(_NAMES) + 2
    watched = [os.pidfd_open(pid) for pid in pids]
    up.process.send_signal(ending)
    up.process.communicate()
    try:
        left = [fd for fd in watched if not select.select([fd], [], [], 10)[0]]
    finally:
        for fd in watched:
            os.close(fd)
    assert left == []
    if ending is signal.SIGINT:
        assert up.process.returncode == 0
        assert not (tmp_path / "endpoints.json").exists()


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(text.rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]
