from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.local.child import Child, last_line

_PARENT = """
import asyncio, os, sys
from pathlib import Path
from forebay.local.child import Child
async def main():
    here = Path(sys.argv[1])
    os.mkfifo(here / "sign")
    command = ["sh", "-c", "echo > sign; exec sleep 600"]
    child = await Child.start(command, os.environ, here, here / "log")
    (here / "sign").read_text()  # it runs, so it has been told to die with us
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
_STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("sign").write_text("ready")
time.sleep(600)
"""


def _ends(pid_fd: int) -> bool:
    """Whether the process behind the descriptor ends within ten seconds."""
    return bool(select.select([pid_fd], [], [], 10)[0])


def test_a_child_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert _ends(child)
    finally:
        os.close(child)


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path):
    os.mkfifo(tmp_path / "sign")
    command = [sys.executable, "-c", _STUBBORN]
    child = await Child.start(command, os.environ, tmp_path, tmp_path / "log")
    await _sign(tmp_path)
    assert await child.stop(grace_s=0.1) == -signal.SIGKILL
    assert child.ending() == "SIGKILL"


async def test_what_a_child_started_ends_with_it(tmp_path: Path):
    log = tmp_path / "log"
    os.mkfifo(tmp_path / "sign")
    script = "sleep 600 & echo $! > sign; wait"
    child = await Child.start(["sh", "-c", script], os.environ, tmp_path, log)
    grandchild = os.pidfd_open(int(await _sign(tmp_path)))
    await child.stop(grace_s=5)
    try:
        assert _ends(grandchild)
    finally:
        os.close(grandchild)


async def test_a_frozen_child_can_be_stopped(tmp_path: Path):
    child = await Child.start(["sleep", "600"], os.environ, tmp_path, tmp_path / "log")
    child.freeze()
    assert await child.stop(grace_s=5) == -signal.SIGTERM


async def test_every_thread_of_a_frozen_child_stands_still(tmp_path: Path):
    os.mkfifo(tmp_path / "sign")
    command = [sys.executable, "-c", _TWENTY_BUSY_THREADS]
    child = await Child.start(command, os.environ, tmp_path, tmp_path / "log")
    await _sign(tmp_path)
    for _ in range(50):
        child.freeze()
        assert set(_states_of_threads(child.pid)) == {"T"}
        child.send(signal.SIGCONT)
    await child.kill()


async def test_a_child_that_ended_is_not_waited_for_to_stand_still(tmp_path: Path):
    child = await Child.start(["true"], os.environ, tmp_path, tmp_path / "log")
    assert await child.wait() == 0
    child.freeze()


async def test_how_it_ended_is_said_in_words(tmp_path: Path):
    command = ["sh", "-c", "echo first; echo 'the reason'; exit 3"]
    child = await Child.start(command, os.environ, tmp_path, tmp_path / "log")
    assert await child.wait() == 3
    assert child.ending() == "exit code 3"
    assert child.last_line() == "the reason"
    assert not child.running


# Each hashes outside the interpreter's lock: two run at any time.
_TWENTY_BUSY_THREADS = """
import hashlib, pathlib, threading
def work():
    while True:
        hashlib.sha256(bytes(1_000_000))
for _ in range(20):
    threading.Thread(target=work).start()
pathlib.Path("sign").write_text("working")
"""


def _states_of_threads(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return [task.read_text().rpartition(")")[2].split()[0] for task in tasks]


async def _sign(directory: Path) -> str:
    """What the child writes into the pipe named `sign`; opening it waits for the child."""
    return await asyncio.to_thread((directory / "sign").read_text)


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("a\n\n  \n", "a"), ("a\nb", "b"), ("x" * 10_000 + "\nend\n", "end")],
)
def test_the_last_line_is_the_last_that_is_not_blank(tmp_path: Path, text: str, line: str):
    log = tmp_path / "log"
    log.write_text(text)
    assert last_line(log) == line


def test_a_log_that_is_not_there_has_no_last_line(tmp_path: Path):
    assert last_line(tmp_path / "none") == ""


async def test_a_signal_to_a_child_that_ends_just_now_does_not_take_its_exit_code(tmp_path: Path):
    clock = asyncio.get_running_loop().time
    for _ in range(20):
        child = await Child.start(["sh", "-c", "exit 3"], os.environ, tmp_path, tmp_path / "log")
        until = clock() + 0.03
        while clock() < until:  # without a pause: the loop does not hear of the end meanwhile
            child.send(signal.SIGCONT)
        assert await child.wait() == 3
