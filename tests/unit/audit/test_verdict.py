from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from forebay.audit.calls import ProviderCall, calls_of, read_calls
from forebay.audit.ledger import Answer
from forebay.audit.verdict import Audit, Broken, Seen, accepted_jobs, judge
from forebay.errors import ConfigurationError
from forebay.jobs import JobKind, JobState, ResultRef
from tests.contract.store.jobs import a_job

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SOON = AT + timedelta(minutes=5)


def accepted(job_id: str = "j", **changes: Any) -> Answer:
    fields: dict[str, Any] = {"at": AT, "method": "POST", "path": "/v1/search", "status": 202}
    return Answer(**{**fields, "job_id": job_id, **changes})


def told(job_id: str = "j", **changes: Any) -> Answer:
    return accepted(job_id, method="GET", path=f"/v1/jobs/{job_id}", **{"status": 200, **changes})


def seen(job_id: str = "j", **changes: Any) -> Seen:
    fields: dict[str, Any] = {
        "kind": JobKind.SEARCH,
        "state": JobState.SUCCEEDED,
        "generation": 1,
        "attempts": 1,
        "max_attempts": 3,
        "has_result": changes.get("state", JobState.SUCCEEDED) is JobState.SUCCEEDED,
    }
    return Seen(job_id, **{**fields, **changes})


def call(job_id: str = "j", attempt: int = 1, path: str = "/search") -> ProviderCall:
    return ProviderCall(job_id, attempt, "search", path)


def pages(attempt: int, *paths: str) -> list[ProviderCall]:
    return [call(attempt=attempt, path=path) for path in paths]


def audited(
    ledger: Sequence[Answer], *jobs: Seen, calls: Sequence[ProviderCall] | None = None
) -> Audit:
    return judge(ledger, jobs, calls, SOON)


def offenders(audit: Audit, what: Broken) -> list[str]:
    assert not audit.held
    others = {w: o for w, o in audit.broken.items() if o and w is not what}
    assert others == {}, others
    return [f"{offender.name}: {offender.detail}" for offender in audit.broken[what]]


def test_what_was_kept_is_said_to_be_kept() -> None:
    ledger = [
        accepted("a", key="k"),
        accepted("a", key="k", status=200, state="succeeded", generation=1),
        accepted("b", key=None, state="queued"),
        accepted(status=0, job_id=None, key="n"),
        accepted(status=503, job_id=None),
        accepted(status=422, job_id=None),
        told("b", state="failed", generation=1),
    ]
    audit = audited(
        ledger,
        seen("a"),
        seen("b", state=JobState.FAILED, attempts=3),
        seen("not asked for"),
        calls=[call("a"), call("b"), call("b", 2), call("b", 3)],
    )
    assert audit.held
    assert (audit.answers, audit.accepted, audit.terminal) == (7, 2, 2)
    assert (audit.refused, audit.unknown, audit.forgotten) == (1, 2, 0)
    assert audit.by_state == {"failed": 1, "succeeded": 1}
    assert audit.broken.keys() == set(Broken)


def test_an_accepted_job_that_is_not_there_is_lost() -> None:
    audit = audited([accepted("a"), accepted("b")], seen("a"))
    assert offenders(audit, Broken.LOST) == ["b: accepted at 2026-11-22T10:00:00+00:00"]


def test_a_job_is_not_lost_once_its_retention_may_be_over() -> None:
    ledger = [
        *(accepted("short", result_ttl_s=300), accepted("long", result_ttl_s=301)),
        *(told("short", state="succeeded"), told("long", state="succeeded")),
    ]
    audit = audited(ledger)
    assert [o.name for o in audit.broken[Broken.LOST]] == ["long"]
    assert (audit.forgotten, audit.unproven) == (1, ())


def test_what_is_gone_and_whose_end_nobody_was_told_proves_nothing() -> None:
    audit = audited([accepted("a", result_ttl_s=300, state="queued")])
    assert not audit.held
    assert (audit.forgotten, audit.unproven) == (0, ("a",))
    assert not any(audit.broken.values())
    assert audit.findings() == ["not proven: a"]
    replayed = [
        accepted("a", result_ttl_s=60, state="queued"),
        told("a", state="failed", generation=1),
        accepted("a", path="/v1/jobs/a/retry", state="queued", generation=2),
    ]
    assert audited(replayed).unproven == ("a",)


def test_the_retention_begins_when_the_job_was_seen_open_last() -> None:
    late = AT + timedelta(minutes=4)
    ledger = [accepted(result_ttl_s=120), told(at=late, state="running")]
    gone = told(at=SOON, status=404)
    audit = audited([*ledger, gone])
    assert [o.name for o in audit.broken[Broken.LOST]] == ["j"]
    assert [o.name for o in audit.broken[Broken.NOT_FOUND]] == ["j"]


def test_a_retry_that_a_caller_was_told_of_may_not_be_gone() -> None:
    ledger = [
        accepted(state="queued"),
        told(state="failed", generation=1),
        accepted(path="/v1/jobs/j/retry", state="queued", generation=2),
    ]
    audit = audited(ledger, seen(state=JobState.FAILED))
    assert offenders(audit, Broken.LOST) == ["j: told of generation 2; the store has 1"]


@pytest.mark.parametrize("changes", [{"status": 503}, {"status": 0}, {"status": 201}])
def test_what_was_not_promised_is_not_missed(changes: Any) -> None:
    audit = audited([accepted(**changes)])
    assert audit.held
    assert (audit.accepted, audit.unknown) == (0, 1)


def test_an_open_job_is_not_held_yet_and_not_broken() -> None:
    audit = audited([accepted()], seen(state=JobState.RUNNING))
    assert not audit.held
    assert (audit.open, audit.terminal) == (("j",), 0)
    assert not any(audit.broken.values())


def test_a_404_after_the_202_is_told_even_if_the_job_is_there_now() -> None:
    gone = told(status=404, at=AT + timedelta(seconds=1))
    audit = audited([accepted(), gone, gone], seen())
    assert offenders(audit, Broken.NOT_FOUND) == ["j: 2 times, first at 2026-11-22T10:00:01+00:00"]
    later = told(status=404, at=AT + timedelta(days=1))
    assert audited([accepted(), later], seen()).held


def test_one_key_with_two_jobs_is_told() -> None:
    ledger = [accepted("a", key="k"), accepted("b", key="k"), accepted("a", key="k")]
    audit = audited(ledger, seen("a"), seen("b"))
    assert offenders(audit, Broken.DUPLICATES) == ["k: a and b"]
    assert audited([accepted("a"), accepted("b")], seen("a"), seen("b")).held


@pytest.mark.parametrize(
    ("answers", "now", "said"),
    [
        ([{"state": "succeeded"}], {"state": JobState.FAILED}, "told succeeded; it is failed"),
        ([{"state": "failed", "generation": 1}], {}, "told failed; it is succeeded"),
        ([{"state": "failed"}], {"state": JobState.QUEUED}, "told failed; it is queued"),
        (
            [{"state": "failed", "generation": 2}, {"state": "succeeded", "generation": 2}],
            {"generation": 2},
            "told failed and succeeded",
        ),
    ],
)
def test_an_end_that_is_another_one_now_is_told(answers: Any, now: Any, said: str) -> None:
    audit = audited([accepted(), *(told(**one) for one in answers)], seen(**now))
    assert [o.detail for o in audit.broken[Broken.TOLD_OTHERWISE]] == [said]


@pytest.mark.parametrize("generation", [None, 1])
def test_an_end_before_a_replay_may_be_another_one(generation: int | None) -> None:
    answers = [accepted(), told(state="failed", generation=generation)]
    assert audited(answers, seen(generation=2)).held


@pytest.mark.parametrize(
    ("job", "calls", "said"),
    [
        ({"attempts": 4}, [], "4 attempts, allowed 3"),
        ({}, [1, 2, 3, 4], "attempt 4 called, allowed 3"),
        ({"max_attempts": 1}, [1, 1], "2 calls, allowed 1"),
        ({"kind": JobKind.CRAWL}, [1, 1, 4], "attempt 4 called, allowed 3"),
    ],
)
def test_a_job_over_its_limit_is_told(job: Any, calls: Sequence[int], said: str) -> None:
    audit = audited([accepted()], seen(**job), calls=[call(attempt=n) for n in calls])
    assert [o.detail for o in audit.broken[Broken.OVER_LIMIT]] == [said]


def test_attempts_over_the_limit_are_seen_without_a_log_of_calls() -> None:
    audit = audited([accepted()], seen(attempts=4))
    assert offenders(audit, Broken.OVER_LIMIT) == ["j: 4 attempts, allowed 3"]
    about_calls = {
        Broken.CALLED_TWICE,
        Broken.SUCCESS_WITHOUT_CALL,
        Broken.CALLED_UNSTARTED,
        Broken.CALLED_UNCOUNTED,
    }
    assert audit.broken.keys() == set(Broken) - about_calls


def test_an_attempt_that_called_twice_is_told() -> None:
    calls = [call(attempt=1), call(attempt=2), call(attempt=2)]
    audit = audited([accepted()], seen(attempts=2), calls=calls)
    assert offenders(audit, Broken.CALLED_TWICE) == ["j: attempt 2: 2 calls"]


@pytest.mark.parametrize(
    ("generation", "calls", "said"),
    [
        (1, pages(1, "/a", "/a"), "attempt 1: /a 2 times"),
        (1, [*pages(1, "/a", "/b"), *pages(2, "/a", "/b", "/b")], "attempt 2: /b 2 times"),
        (1, pages(1, "/a", "/b", "/a", "/a"), "attempt 1: /a 3 times"),
        (2, pages(1, "/a", "/a", "/a"), "attempt 1: /a 3 times"),
    ],
    ids=["its only page", "a page it followed", "the page it began with", "and replayed"],
)
def test_a_crawl_that_asked_for_a_page_twice_in_one_attempt_is_told(
    generation: int, calls: Sequence[ProviderCall], said: str
) -> None:
    attempts = max(one.attempt for one in calls)
    job = seen(kind=JobKind.CRAWL, attempts=attempts, generation=generation)
    audit = audited([accepted()], job, calls=calls)
    assert offenders(audit, Broken.CALLED_TWICE) == [f"j: {said}"]


@pytest.mark.parametrize(
    ("generation", "calls"),
    [
        (1, pages(1, "/redirect/relative", "/pages/2", "/pages/4")),
        (1, [*pages(1, "/a", "/b"), *pages(2, "/a", "/b")]),
        (1, pages(1, "/a", "/b", "/a")),
        (1, pages(1, "/v2/scrape", "/v2/scrape", "/v2/scrape")),
        (2, pages(1, "/a", "/b", "/a", "/b")),
    ],
    ids=["many pages", "again", "without its query", "by a crawler API", "replayed"],
)
def test_a_crawl_may_ask_for_many_pages(generation: int, calls: Sequence[ProviderCall]) -> None:
    attempts = max(one.attempt for one in calls)
    job = seen(kind=JobKind.CRAWL, attempts=attempts, generation=generation)
    assert audited([accepted()], job, calls=calls).held


def test_a_call_that_its_job_does_not_count_is_told() -> None:
    calls = [call(attempt=n) for n in (1, 2, 3)]
    audit = audited([accepted()], seen(attempts=1), calls=calls)
    assert offenders(audit, Broken.CALLED_UNCOUNTED) == ["j: attempt 3 called, 1 counted"]


def test_calls_that_may_be_counted_by_now_or_were_in_another_generation_are_not_told() -> None:
    calls = [call(attempt=n) for n in (1, 2)]
    running = seen(state=JobState.RUNNING, attempts=1)
    assert not any(audited([accepted()], running, calls=calls).broken.values())
    assert audited([accepted()], seen(attempts=1, generation=2), calls=calls).held


def test_a_replayed_job_may_call_again_under_the_same_numbers() -> None:
    calls = [call(attempt=n) for n in (1, 2, 3, 1, 2, 3)]
    assert audited([accepted()], seen(generation=2), calls=calls).held
    audit = audited([accepted()], seen(generation=2), calls=[*calls, call()])
    assert [o.detail for o in audit.broken[Broken.OVER_LIMIT]] == ["7 calls, allowed 6"]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.FAILED, JobState.QUEUED])
def test_a_result_without_success_is_told(state: JobState) -> None:
    audit = audited([accepted()], seen(state=state, has_result=True))
    assert [o.detail for o in audit.broken[Broken.RESULT_WITHOUT_SUCCESS]] == [f"it is {state}"]


def test_a_success_without_a_result_is_told() -> None:
    audit = audited([accepted()], seen(has_result=False))
    assert offenders(audit, Broken.SUCCESS_WITHOUT_RESULT) == ["j: it is succeeded"]


@pytest.mark.parametrize("kind", [JobKind.SEARCH, JobKind.CRAWL])
@pytest.mark.parametrize("calls", [[call("another")], [call(attempt=1)]], ids=["none", "earlier"])
def test_a_success_of_an_attempt_without_a_call_is_told(
    kind: JobKind, calls: Sequence[ProviderCall]
) -> None:
    audit = audited([accepted()], seen(kind=kind, attempts=2), calls=calls)
    assert offenders(audit, Broken.SUCCESS_WITHOUT_CALL) == ["j: attempt 2 succeeded"]


@pytest.mark.parametrize("state", [JobState.CANCELED, JobState.EXPIRED])
def test_a_call_for_a_job_that_ended_before_its_start_is_told(state: JobState) -> None:
    never = seen(state=state, attempts=0)
    audit = audited([accepted()], never, calls=[call()])
    assert offenders(audit, Broken.CALLED_UNSTARTED) == [f"j: {state} with no attempt, 1 calls"]
    assert audited([accepted()], never, calls=[]).held
    assert audited([accepted()], seen(state=state, attempts=1), calls=[call()]).held


def test_programs_get_every_figure_and_every_offender() -> None:
    audit = audited([accepted("a"), accepted("b"), accepted("c")], seen("a", state=JobState.QUEUED))
    said = audit.as_json()
    assert (said["held"], said["accepted"], said["terminal"], said["open"]) == (False, 3, 0, ["a"])
    assert [lost["name"] for lost in said["broken"]["lost"]] == ["b", "c"]
    assert [lost.name for lost in audit.lost] == ["b", "c"]
    assert audit.findings() == [
        "lost: b: accepted at 2026-11-22T10:00:00+00:00",
        "lost: c: accepted at 2026-11-22T10:00:00+00:00",
        "still open: a",
    ]


def test_what_happened_twice_is_counted_together() -> None:
    ledger = [accepted("a", key="k"), accepted("b", key="k")]
    audit = audited(ledger, seen("a"), seen("b"), calls=[call("a"), call("a"), call("b")])
    assert [twice.name for twice in audit.duplicates] == ["k", "a"]
    assert audit.over_limit == ()


@pytest.mark.parametrize(
    ("changes", "has_result"),
    [({}, False), ({"result": ""}, True), ({"result_ref": ResultRef("t", 1, 5)}, True)],
)
def test_a_result_is_seen_wherever_it_is(changes: Any, has_result: bool) -> None:
    assert Seen.of(a_job(**changes)).has_result is has_result


def test_the_jobs_of_a_ledger_are_those_that_were_promised() -> None:
    ledger = [accepted("a"), accepted("a"), told("b"), accepted("c", status=503)]
    assert accepted_jobs(ledger) == {"a"}


def test_calls_without_a_job_are_left_out() -> None:
    said = [
        {"job_id": "j", "attempt": 2, "kind": "llm", "path": "/v1/messages"},
        {"job_id": "probe", "attempt": None, "kind": "llm", "path": "/v1/messages"},
        {"job_id": None, "attempt": None, "kind": "crawl", "path": "/robots.txt"},
    ]
    assert [*calls_of(said)] == [ProviderCall("j", 2, "llm", "/v1/messages")]


@pytest.mark.parametrize("line", ["{", "[]", '{"job_id": "j", "attempt": 1, "kind": "search"}'])
def test_a_line_that_is_no_call_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"job_id": "j", "attempt": 1, "kind": "search", "path": "/"}\n' + line)
    with pytest.raises(ConfigurationError, match=r"calls\.jsonl, line 2: it is no provider call"):
        read_calls(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_calls(tmp_path)


def test_an_end_of_which_nobody_was_told_is_told() -> None:
    audit = audited([accepted()], seen(untold=True))
    assert offenders(audit, Broken.UNTOLD) == ["j: it is succeeded"]
    assert not audit.held
