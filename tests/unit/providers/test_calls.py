from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from loadtest.providers.behaviour import Kind
from loadtest.providers.calls import CallLog, split_request_id


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("job_0199ab.2", ("job_0199ab", 2)),
        ("a.b.3", ("a.b", 3)),
        ("job_0199ab", ("job_0199ab", None)),
        ("job.x", ("job.x", None)),
        (".4", (".4", None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_request_id_is_a_job_and_an_attempt(
    sent: str | None, expected: tuple[str | None, int | None]
):
    assert split_request_id(sent) == expected


def test_concurrency_is_counted_by_kind_at_each_start():
    log = CallLog()
    first = log.begin(Kind.LLM, "openai", "/x", "job_1.1")
    second = log.begin(Kind.LLM, "openai", "/x", "job_2.1")
    log.begin(Kind.SEARCH, "brave", "/x", "job_3.1")
    log.end(first, 200)
    third = log.begin(Kind.LLM, "openai", "/x", "job_1.2")
    assert [first.in_flight, second.in_flight, third.in_flight] == [1, 2, 2]
    stats = log.stats()["llm"]
    assert stats["calls"] == 3
    assert (stats["in_flight"], stats["max_in_flight"]) == (2, 2)
    assert (stats["jobs"], stats["max_calls_per_job"], stats["max_attempt"]) == (2, 2, 2)


def test_only_the_first_end_of_a_call_counts():
    log = CallLog()
    call = log.begin(Kind.LLM, "openai", "/x", None)
    log.end(call, 200)
    log.end(call, None, client_gone=True)
    assert log.stats()["llm"]["by_status"] == {"200": 1}
    assert log.in_flight(Kind.LLM) == 0
    assert call.client_gone is False


def test_memory_is_bounded_and_the_counters_stay_exact():
    log = CallLog(keep=10)
    for n in range(1000):
        log.end(log.begin(Kind.SEARCH, "brave", "/x", f"job_{n}.1"), 200)
    assert len(log.calls()) == 10
    assert log.calls(job="job_1") == []
    stats = log.stats()["search"]
    assert (stats["calls"], stats["by_status"], stats["jobs"]) == (1000, {"200": 1000}, 10)


def test_a_reset_forgets_all_but_what_is_in_flight():
    log = CallLog()
    log.end(log.begin(Kind.CRAWL, "site", "/", "job_1.1"), 200)
    flying = log.begin(Kind.CRAWL, "site", "/", "job_2.1")
    log.reset()
    stats = log.stats()["crawl"]
    assert (stats["calls"], stats["in_flight"], stats["by_status"]) == (0, 1, {})
    log.end(flying, 200)
    stats = log.stats()["crawl"]
    assert (stats["in_flight"], stats["by_status"]) == (0, {})


def test_each_finished_call_is_a_line_of_the_file_at_once(tmp_path: Path):
    path = tmp_path / "calls.jsonl"
    log = CallLog(path)
    log.end(log.begin(Kind.LLM, "openai", "/v1", "job_9.3"), 429)
    line = json.loads(path.read_text())
    log.close()
    assert (line["job_id"], line["attempt"], line["status"]) == ("job_9", 3, 429)
    assert line["ended_monotonic_ms"] >= line["started_monotonic_ms"]


async def test_one_can_wait_for_calls_to_arrive():
    log = CallLog()
    two = asyncio.ensure_future(log.until(lambda: log.in_flight(Kind.LLM) == 2))
    log.begin(Kind.LLM, "openai", "/x", None)
    await asyncio.sleep(0)
    assert not two.done()
    log.begin(Kind.LLM, "openai", "/x", None)
    await two
