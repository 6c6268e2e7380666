"""The places where a process can be told to die: what each does, armed and not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from forebay.crashpoints import CrashPoint

ROOT = Path(__file__).parents[3]
SERVICES = ROOT / "services"
PLACED = re.compile(r"\bcrashpoint\(CrashPoint\.([A-Z_]+)\)")

WALK = """
import os, signal
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.process import run
async def main(process):
    told = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    for step in range(5):
        crashpoint(CrashPoint.WORKER_AFTER_RECEIVE)
        crashpoint(CrashPoint.WORKER_AFTER_CLAIM)
        print(f"step {step} {len(told)}", flush=True)
run("walker", main)
"""


def walk(log: Path | str | None, **env: str) -> subprocess.CompletedProcess[str]:
    """Pass two places five times; it says each step, and how often it was told to end."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    told |= {"PYTHONPATH": str(SERVICES), **env}
    if log is not None:
        told["FOREBAY_CRASHPOINT_LOG"] = str(log)
    return subprocess.run(
        [sys.executable, "-c", WALK], env=told, capture_output=True, text=True, check=False
    )


def steps(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in ended.stdout.splitlines() if line.startswith("step")]


@pytest.mark.parametrize(("spec", "before"), [("", 0), (":1", 0), (":3", 2)])
def test_an_armed_process_dies_at_its_nth_hit_by_sigkill(
    tmp_path: Path, spec: str, before: int
) -> None:
    log = tmp_path / "hits"
    ended = walk(log, FOREBAY_CRASHPOINT=f"worker.after_claim{spec}")
    assert ended.returncode == -signal.SIGKILL
    assert len(steps(ended)) == before
    assert re.fullmatch(r"worker\.after_claim \d+\n", log.read_text())


def test_an_armed_process_says_so_loudly_at_its_start(tmp_path: Path) -> None:
    ended = walk(tmp_path / "hits", FOREBAY_CRASHPOINT="worker.after_claim:2")
    said = next(json.loads(line) for line in ended.stderr.splitlines() if "process.armed" in line)
    assert (said["level"], said["crashpoint"]) == ("warning", "worker.after_claim:2")


def test_a_process_that_is_not_armed_passes_every_place(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    ended = walk(log)
    assert (ended.returncode, len(steps(ended))) == (0, 5)
    assert "process.armed" not in ended.stderr
    assert not log.exists()


def test_sigterm_comes_once_and_the_process_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    ended = walk(log, FOREBAY_CRASHPOINT="worker.after_receive:2:term")
    assert ended.returncode == 0
    assert steps(ended) == ["step 0 0", "step 1 1", "step 2 1", "step 3 1", "step 4 1"]
    assert log.read_text().startswith("worker.after_receive ")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("worker.nowhere", "'worker.nowhere' is not known; it can be ingress.before_insert, "),
        ("worker.after_claim:0", "a place is reached once or more, not '0' times"),
        ("worker.after_claim:often", "a place is reached once or more, not 'often' times"),
        ("worker.after_claim:1:pause", "'pause' is not known; it can be kill, term"),
        ("", "'' is not known"),
    ],
)
def test_a_place_that_is_not_there_ends_the_process_with_the_reason(
    tmp_path: Path, spec: str, why: str
) -> None:
    ended = walk(tmp_path / "hits", FOREBAY_CRASHPOINT=spec)
    assert ended.returncode == 2
    assert f"FOREBAY_CRASHPOINT: {why}" in ended.stderr
    assert steps(ended) == []


@pytest.mark.parametrize("log", [None, "", "/", "."])
def test_a_stray_variable_alone_arms_nothing_and_is_refused(log: str | None) -> None:
    ended = walk(log, FOREBAY_CRASHPOINT="worker.after_receive")
    assert ended.returncode == 2
    assert "FOREBAY_CRASHPOINT: it makes the process kill itself" in ended.stderr
    assert "FOREBAY_CRASHPOINT_LOG" in ended.stderr
    assert steps(ended) == []


def test_every_place_of_the_registry_is_in_the_code_once_and_no_other_is() -> None:
    placed = Counter(
        name
        for path in SERVICES.rglob("*.py")
        if path.name != "crashpoints.py"
        for name in PLACED.findall(path.read_text(encoding="utf-8"))
    )
    assert placed == Counter(point.name for point in CrashPoint)


@pytest.mark.parametrize(
    ("point", "path", "before", "after"),
    [
        # What is done just before a place and just after it, in the order of the file.
        ("INGRESS_BEFORE_INSERT", "forebay/store/group_commit.py", "def _commit(", ".insert("),
        ("INGRESS_AFTER_INSERT", "forebay/store/group_commit.py", ".insert([", "set_result("),
        ("INGRESS_AFTER_ANSWER", "ingress/routes/submit.py", "super().__call__", ""),
        ("INGRESS_BEFORE_PUBLISH", "ingress/publishing.py", "_new.take()", ".publish(["),
        ("INGRESS_AFTER_PUBLISH", "ingress/publishing.py", ".publish([", "_confirmed.put("),
        ("INGRESS_BEFORE_MARK", "ingress/publishing.py", "_confirmed.take()", "_mark_patiently("),
        ("RELAY_AFTER_DUE", "reconciler/relay.py", ".queue_due(", '_publish("due"'),
        ("OUTBOX_BEFORE_PUBLISH", "reconciler/outbox.py", "if not refs", ".publish(["),
        ("OUTBOX_AFTER_PUBLISH", "reconciler/outbox.py", ".publish([", ".mark_published("),
        ("RESCUER_BEFORE", "reconciler/rescuer.py", "def turn", ".rescue("),
        ("RESCUER_AFTER_RESCUE", "reconciler/rescuer.py", ".rescue(", ".expire("),
        ("RESCUER_AFTER_EXPIRE", "reconciler/rescuer.py", ".expire(", ""),
        ("WORKER_AFTER_RECEIVE", "forebay/worker/execution.py", "Malformed)", "_claim(message"),
        ("WORKER_AFTER_CLAIM", "forebay/worker/execution.py", "(claim, Refused)", "_work("),
        ("WORKER_DURING_CALL", "forebay/worker/call.py", "_stops.until(", "_store.renew"),
        ("WORKER_BEFORE_WRITE", "forebay/worker/execution.py", "def _conclude", "_store_ending("),
        ("WORKER_AFTER_CHUNKS", "forebay/store/mongo/claims.py", "_large.write(", "updates.end("),
        ("WORKER_BEFORE_ACK", "forebay/worker/execution.py", "_store_ending(", "_settle("),
        ("WORKER_BEFORE_DEAD_LETTER", "forebay/broker/settling.py", "dead(opened(", ".send("),
        ("WORKER_AFTER_DEAD_LETTER", "forebay/broker/settling.py", ".send(", "self.ack("),
    ],
)
def test_a_place_is_between_the_steps_that_its_name_says(
    point: str, path: str, before: str, after: str
) -> None:
    text = (SERVICES / path).read_text(encoding="utf-8")
    at = text.index(f"crashpoint(CrashPoint.{point})")
    start = text.rindex("def ", 0, at)
    if "def " in before:
        start = text.rindex("\n", 0, start)
    assert before in text[start:at]
    assert after in text[at : text.find("\n    def ", at) if "\n    def " in text[at:] else None]
    assert after == "" or after not in text[start:at]
