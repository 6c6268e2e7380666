from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from forebay.local.errors import LocalStackError
from forebay.local.ports import Ports
from forebay.local.processes import ProcessSpec, Supervisor, write_json
from forebay.testing.polling import until


class Said:
    """Collects what the supervisor says; `until` waits for a line with these words."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, line: str) -> None:
        self.lines.put_nowait(line)

    async def until(self, words: str) -> str:
        while True:
            line = await self.lines.get()
            if words in line:
                return line


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def supervisor(tmp_path: Path, said: Said) -> AsyncIterator[Supervisor]:
    async with Supervisor(tmp_path, tmp_path, grace_s=5, speak=said) as entered:
        yield entered


def _spec(name: str, script: str, ready_url: str | None = None) -> ProcessSpec:
    return ProcessSpec(name, ("sh", "-c", script), os.environ, ready_url)


def _web(name: str) -> ProcessSpec:
    port = Ports().take(name)
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    return ProcessSpec(name, command, os.environ, f"http://127.0.0.1:{port}/")


def _written(directory: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads((directory / "processes.json").read_text())
    return found


async def test_a_process_that_dies_is_restarted_and_that_is_said(
    supervisor: Supervisor, said: Said, tmp_path: Path
):
    await supervisor.start(_spec("worker", "echo working; exec sleep 600"))
    (first,) = supervisor.pids("worker")
    # The line is there before the kill: the log is read when the process has ended.
    os.kill(first, 0)
    supervisor.send("worker", signal.SIGKILL)
    assert "worker ended (SIGKILL)" in await said.until("worker ended")
    await said.until("worker runs again")
    (second,) = supervisor.pids("worker")
    assert second != first
    assert _written(tmp_path) == {"worker": [second]}


async def test_exit_code_and_last_line_of_the_log_are_said(supervisor: Supervisor, said: Said):
    await supervisor.start(_spec("worker", "echo out of memory; exit 7"))
    line = await said.until("worker ended")
    assert "(exit code 7)" in line
    assert line.endswith("out of memory")


async def test_what_is_told_later_holds_from_the_next_start_on(supervisor: Supervisor, said: Said):
    script = "echo in $MOOD; exec sleep 600"
    await supervisor.start(ProcessSpec("worker", ("sh", "-c", script), {**os.environ, "MOOD": "a"}))

    async def said_its_moods() -> bool:
        return supervisor.log("worker").read_text() == "".join(f"in {mood}\n" for mood in moods)

    moods = ["a"]
    await until(said_its_moods, 10)
    for told, mood in (({"MOOD": "b"}, "b"), ({}, "a")):
        moods.append(mood)
        supervisor.tell("worker", told)
        supervisor.send("worker", signal.SIGKILL)
        await said.until("worker runs again")
        await until(said_its_moods, 10)
    assert supervisor.endings("worker") == ("SIGKILL", "SIGKILL")


async def test_how_long_a_dead_process_stays_dead_can_be_told(tmp_path: Path, said: Said):
    quick = Supervisor(tmp_path, tmp_path, speak=said, pauses_s=(0.0, 0.0))
    async with quick as supervisor, asyncio.timeout(20):
        await supervisor.start(_spec("worker", "exit 3"))
        for _ in range(8):
            await said.until("worker runs again")
        # By the usual pauses these eight starts take more than 20 s.
        assert supervisor.endings("worker")[:3] == ("exit code 3",) * 3


async def test_start_waits_until_the_process_answers(supervisor: Supervisor, tmp_path: Path):
    spec = _web("web")
    await supervisor.start(spec)
    _, writer = await asyncio.open_connection("127.0.0.1", int((spec.ready_url or "")[:-1][-5:]))
    writer.close()
    await writer.wait_closed()
    assert _written(tmp_path) == {"web": list(supervisor.pids("web"))}


async def test_a_process_that_ends_before_it_is_ready_fails_the_start(supervisor: Supervisor):
    spec = _spec("web", "echo FOREBAY_X is not set >&2; exit 2", "http://127.0.0.1:9/")
    with pytest.raises(
        LocalStackError, match=r"(?s)web could not start \(exit code 2\).*FOREBAY_X"
    ):
        await supervisor.start(spec)


async def test_a_command_that_fails_says_its_last_line(supervisor: Supervisor):
    with pytest.raises(LocalStackError, match=r"topology could not start .*: no broker"):
        await supervisor.run_once(_spec("topology", "echo no broker; exit 1"))


async def test_a_command_that_succeeds_is_awaited(supervisor: Supervisor, tmp_path: Path):
    await supervisor.run_once(_spec("topology", "touch done"))
    assert (tmp_path / "done").exists()


async def test_what_is_stopped_on_purpose_is_not_restarted(
    supervisor: Supervisor, said: Said, tmp_path: Path
):
    await supervisor.start(_spec("worker", "exec sleep 600"))
    await supervisor.stop("worker")
    assert _written(tmp_path) == {}
    assert said.lines.empty()


async def test_leaving_ends_every_process(tmp_path: Path):
    async with Supervisor(tmp_path, tmp_path, speak=Said()) as supervisor:
        await supervisor.start(_spec("a", "exec sleep 600"), _spec("b", "exec sleep 600"))
        pids = [*supervisor.pids("a"), *supervisor.pids("b")]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert _written(tmp_path) == {}


def test_json_is_replaced_whole_and_only_its_owner_may_read_it(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("{")
    write_json(path, {"a": [1]})
    assert json.loads(path.read_text()) == {"a": [1]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
