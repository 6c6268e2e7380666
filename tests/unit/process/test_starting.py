"""How a process begins when something is missing: one sentence and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROCESSES = [
    "ingress",
    "search_worker",
    "crawler_worker",
    "llm_worker",
    "webhook_worker",
    "reconciler",
]


def start(process: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    env |= {"PYTHONPATH": str(ROOT / "services"), "FOREBAY_INGRESS_PORT": "0", **settings}
    command = [sys.executable, "-m", process]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=55, check=False)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_missing_setting_is_one_clear_sentence_and_exit_code_2(process: str) -> None:
    ended = start(process, FOREBAY_AMQP_URL="amqp://user:hunter2@127.0.0.1:1/forebay")
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith(f"{process}: FOREBAY_MONGODB_URL is not set; it is needed: ")
    assert ended.returncode == 2
    assert "hunter2" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("process", PROCESSES)
def test_a_setting_that_makes_no_sense_is_named(process: str) -> None:
    ended = start(process, FOREBAY_LOG_LEVEL="loud")
    assert ended.stderr.startswith(f"{process}: FOREBAY_LOG_LEVEL makes no sense: ")
    assert ended.returncode == 2


BAD_URLS = [
    ("FOREBAY_AMQP_URL", "amqp://user:s3cr/et@localhost/"),
    ("FOREBAY_AMQP_URL", "amqp://user:12/s3cr@localhost/"),
    ("FOREBAY_AMQP_URL", "http://user:s3cr@localhost/"),
    ("FOREBAY_MONGODB_URL", "mongodb://user:s3cr/et@localhost/"),
    ("FOREBAY_MONGODB_URL", "mongodb://user:s3cr/et@localhost"),
]


@pytest.mark.parametrize("process", ["ingress", "search_worker", "reconciler"])
@pytest.mark.parametrize(("setting", "url"), BAD_URLS)
def test_a_url_that_cannot_be_read_is_one_sentence_without_its_password(
    process: str, setting: str, url: str
) -> None:
    good = {
        "FOREBAY_AMQP_URL": "amqp://user@127.0.0.1:1/forebay",
        "FOREBAY_MONGODB_URL": "mongodb://127.0.0.1:1/",
    }
    ended = start(process, **{**good, setting: url})
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith(f"{process}: {setting} makes no sense")
    assert ended.returncode == 2
    assert "s3cr" not in ended.stderr
