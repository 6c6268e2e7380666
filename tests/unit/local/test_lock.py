from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.local.errors import AlreadyUp
from forebay.local.lock import only_one

_HOLD = """
import sys
from pathlib import Path
from forebay.local.lock import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_told_who_holds_the_checkout(tmp_path: Path):
    says = f"process {os.getpid()}"
    with only_one(tmp_path), pytest.raises(AlreadyUp, match=says), only_one(tmp_path):
        pytest.fail("held twice")


def test_after_the_first_run_the_next_one_may_begin(tmp_path: Path):
    with only_one(tmp_path):
        pass
    with only_one(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_killed_holder_leaves_nothing_to_clean_up(tmp_path: Path):
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyUp, match=str(holder.pid)), only_one(tmp_path):
            pytest.fail("held twice")
        holder.kill()
        holder.wait()
    with only_one(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
