"""The providers' log of calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forebay.audit.calls import ProviderCall, read_calls
from forebay.errors import ConfigurationError

CALL = {"job_id": "job_1", "attempt": 2, "kind": "llm", "path": "/v1/x", "status": 200}


def log(directory: Path, *lines: Any) -> Path:
    path = directory / "calls.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_calls_for_a_job_are_read_and_others_left_out(tmp_path: Path) -> None:
    nobodys = {**CALL, "job_id": None, "attempt": None}
    found = read_calls(log(tmp_path, CALL, nobodys))
    assert found == [ProviderCall("job_1", 2, "llm", "/v1/x")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"job_id": "job_1"}, "line 2: it is no provider call"),
        ([], "line 2: it is no provider call"),
        ({**CALL, "job_id": 1}, "line 2: `job_id` is of the wrong type"),
        ({**CALL, "attempt": "2"}, "line 2: `attempt` is of the wrong type"),
        ({**CALL, "path": None}, "line 2: `path` is of the wrong type"),
    ],
)
def test_a_line_that_is_no_call_is_named(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_calls(log(tmp_path, CALL, line))
    assert said in str(refused.value)


def test_a_log_that_is_not_there_not_text_or_nested_too_deep_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl cannot be read: No such file"):
        read_calls(tmp_path / "none.jsonl")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="bytes is not text in UTF-8"):
        read_calls(tmp_path / "bytes")
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError, match="line 1: it is no provider call"):
        read_calls(tmp_path / "deep")
