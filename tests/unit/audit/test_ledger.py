from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from forebay.audit.ledger import Answer, LedgerWriter, Meaning, read_ledger
from forebay.errors import ConfigurationError

AT = datetime(2026, 11, 22, 10, 2, 0, 250_000, UTC)
HEADER = '{"ledger": 1}\n'
LINE = '{"at": "2026-11-22T10:02:00Z", "method": "POST", "path": "/v1/llm", "status": 202}\n'


def an_answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {"at": AT, "method": "POST", "path": "/v1/search", "status": 202}
    return Answer(**{**fields, "job_id": "job_1", **changes})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    answers = [
        an_answer(kind="search", key='a "key" é\n', state="queued", generation=1, result_ttl_s=60),
        an_answer(status=0, job_id=None, note="the connection broke"),
        an_answer(method="GET", path="/v1/jobs/job_1", status=404),
    ]
    with LedgerWriter(tmp_path / "deep" / "ledger.jsonl") as ledger:
        for answer in answers:
            ledger.write(answer)
    assert read_ledger(tmp_path / "deep" / "ledger.jsonl") == answers


def test_a_second_writer_goes_on_in_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for number in range(2):
        with LedgerWriter(path) as ledger:
            ledger.write(an_answer(job_id=f"job_{number}"))
    assert [answer.job_id for answer in read_ledger(path)] == ["job_0", "job_1"]


def test_an_answer_is_in_the_file_before_the_ledger_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with LedgerWriter(path) as ledger:
        noted = ledger.note("POST", "/v1/jobs", 202, job_id="job_1")
        assert read_ledger(path) == [noted]


def test_times_are_kept_in_utc(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    moment = datetime.fromisoformat("2026-11-22T12:02:00.250+02:00")
    with LedgerWriter(path) as ledger:
        ledger.write(an_answer(at=moment))
    assert json.loads(path.read_text().splitlines()[1])["at"] == "2026-11-22T10:02:00.250000+00:00"
    assert read_ledger(path)[0].at == moment


@pytest.mark.parametrize(
    ("changes", "meaning"),
    [
        ({"status": 202}, Meaning.ACCEPTED),
        ({"status": 200}, Meaning.ACCEPTED),
        ({"status": 202, "job_id": None}, Meaning.UNKNOWN),
        ({"status": 201}, Meaning.UNKNOWN),
        ({"status": 204}, Meaning.UNKNOWN),
        ({"status": 307}, Meaning.UNKNOWN),
        ({"status": 0, "job_id": None}, Meaning.UNKNOWN),
        ({"status": 500}, Meaning.UNKNOWN),
        ({"status": 503}, Meaning.UNKNOWN),
        ({"status": 422, "job_id": None}, Meaning.REFUSED),
        ({"status": 429}, Meaning.REFUSED),
    ],
)
def test_only_a_success_with_an_id_is_a_promise(changes: Any, meaning: Meaning) -> None:
    answer = an_answer(**changes)
    assert answer.meaning is meaning
    assert answer.accepted is (meaning is Meaning.ACCEPTED)


@pytest.mark.parametrize(
    "changes", [{"method": "GET", "path": "/v1/jobs/job_1"}, {"path": "/v1/jobs/job_1/retry"}]
)
def test_only_a_submission_is_accepted(changes: Any) -> None:
    assert not an_answer(**changes).accepted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: it is not JSON"),
        ("{}\n", "line 1: a ledger begins with"),
        ('{"ledger": 2}\n', "version 2; this reads version 1"),
        (LINE, "line 1: a ledger begins with"),
        (HEADER + LINE + LINE[:30], "line 3: it is not JSON; was its writer ended"),
        (HEADER + "[]\n", "line 2: it is not a JSON object"),
        (HEADER + "\n", "line 2: it is not JSON"),
        (HEADER + LINE.replace("status", "stat"), "line 2: `status` is missing"),
        (HEADER + LINE.replace(": 202", ': "202"'), "line 2: `status` is not a whole number"),
        (HEADER + LINE.replace(": 202", ": true"), "line 2: `status` is not a whole number"),
        (HEADER + LINE.replace('"/v1/llm"', "1"), "line 2: `path` is not text"),
        (HEADER + LINE.replace("}", ', "job": "job_1"}'), "line 2: `job` is not known"),
        (HEADER + LINE.replace("}", ', "state": "gone"}'), "line 2: `state` is 'gone'"),
        (HEADER + LINE.replace("2026-11-22T10:02:00Z", "soon"), "line 2: `at` is not a time"),
        (HEADER + LINE.replace("00Z", "00"), "line 2: `at` has no offset"),
        (
            HEADER + LINE.replace("}", ', "result_ttl_s": 99999999999}'),
            "`result_ttl_s` is not betw",
        ),
        (HEADER + LINE.replace("}", ', "result_ttl_s": -1}'), "`result_ttl_s` is not between 0"),
        (HEADER + "[" * 100_000 + "\n", "line 2: it is not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read_ledger(path)
    assert f"{path}, " in str(refused.value)
    assert said in str(refused.value)


def test_a_ledger_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl cannot be read: No such file"):
        read_ledger(tmp_path / "none.jsonl")
    (tmp_path / "bytes").write_bytes(HEADER.encode() + b"\xff")
    with pytest.raises(ConfigurationError, match="bytes is not text in UTF-8"):
        read_ledger(tmp_path / "bytes")


def test_a_hundred_thousand_answers_are_written_and_read_in_little_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    count = 100_000
    began = datetime.now(UTC)
    with LedgerWriter(path) as ledger:
        for number in range(count):
            ledger.note("POST", "/v1/search", 202, job_id=f"job_{number}", key=f"k{number}")
    assert len(read_ledger(path)) == count
    # About 2 s alone; a bound that a busy machine holds and a quadratic writer does not.
    assert datetime.now(UTC) - began < timedelta(seconds=40)
