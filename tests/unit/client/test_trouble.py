"""What the client makes of answers that are lost, late or not those of an ingress."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from forebay.client import (
    Client,
    Forbidden,
    Gone,
    JobFailed,
    NotFound,
    RateLimited,
    Refused,
    SearchRequest,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from forebay.client.patience import PAUSES, Patience
from forebay.testing.polling import span
from tests.ingress_process import ROOT, free_port
from tests.unit.client.conftest import Script, a_job, a_problem

OVERLOADED = a_problem(503, "overloaded", retryable=True)


async def test_a_submission_is_repeated_under_one_key_until_it_is_answered(
    api: Script, client: Client
) -> None:
    api.plays(None, (502, b"<html>", {}), (503, OVERLOADED), (202, a_job()))
    job = await client.search("weir")
    assert job.id == "job_1"
    assert len(api.seen) == 4
    assert len({one.headers["Idempotency-Key"] for one in api.seen}) == 1
    assert len({one.body for one in api.seen}) == 1
    await_another = (202, a_job())
    api.plays(await_another)
    await client.search("weir")
    assert api.seen[4].headers["Idempotency-Key"] != api.seen[0].headers["Idempotency-Key"]


async def test_a_batch_is_repeated_byte_for_byte_though_its_items_come_once(
    api: Script, client: Client
) -> None:
    batch = {"id": "batch_1", "done": False, "total": 3, "accepted": 3}
    api.plays(None, (503, OVERLOADED), (202, batch))
    items = (SearchRequest(query=f"weir {n}") for n in range(3))
    assert (await client.submit_batch(items)).accepted == 3
    bodies = {one.body for one in api.seen[1:]}
    assert [len(body.splitlines()) for body in bodies] == [3]
    assert len({one.headers["Idempotency-Key"] for one in api.seen}) == 1


async def test_a_wait_outlives_an_ingress_that_restarts(api: Script, client: Client) -> None:
    api.plays(
        (200, a_job()), None, (502, b"", {}), (503, OVERLOADED), (200, a_job("running")),
        (200, a_job("succeeded", result=[1])),
    )  # fmt: skip
    assert await client.result("job_1", timeout_s=60) == [1]
    assert all(float(one.query["wait"]) > 0 for one in api.seen)


@pytest.mark.parametrize(
    ("problem", "headers"),
    [
        (a_problem(429, "quota_exceeded", retry_after_s=3600), {}),
        (a_problem(503, "overloaded"), {"Retry-After": "3600"}),
    ],
)
async def test_who_is_told_to_come_back_much_later_hears_it_at_once(
    api: Script, client: Client, problem: dict[str, Any], headers: dict[str, str]
) -> None:
    api.plays((problem["status"], problem, headers))
    with pytest.raises((RateLimited, Unavailable)) as told:
        await client.get("job_1")
    assert told.value.retry_after_s == 3600
    assert len(api.seen) == 1


def test_a_retry_after_is_a_floor_and_other_pauses_grow_to_a_cap() -> None:
    assert PAUSES.pause_s(1, 2.0, 0.0) == 2.0
    assert PAUSES.pause_s(50, None, 1.0) == PAUSES.cap_s
    assert PAUSES.pause_s(1, None, 1.0) < PAUSES.pause_s(3, None, 1.0)


async def test_patience_begins_with_the_first_failure_and_anew_after_a_success() -> None:
    patience = Patience(0.5)
    for _ in range(2):
        await span(0.6)  # a long-poll that breaks off at its end
        await patience.pause(Unreachable())
        assert patience.tried == 1
        patience.renew()


async def test_a_service_that_is_not_there_is_given_up_when_patience_ends() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for patience_s in (0.0, 0.3):
        async with Client(url, patience_s=patience_s) as client:
            with pytest.raises(Unreachable, match=f"{url} does not answer \\(ConnectError\\)"):
                await client.get("job_1")


async def test_a_refusal_that_does_not_pass_is_not_repeated(api: Script, client: Client) -> None:
    for status, kind in ((401, Unauthenticated), (403, Forbidden), (404, NotFound), (418, Refused)):
        api.plays((status, a_problem(status, "some_code")))
        with pytest.raises(kind) as refused:
            await client.search("weir")
        assert (refused.value.code, refused.value.request_id) == ("some_code", "req_1")
    assert len(api.seen) == 4


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"status": "ok"}),
        (200, b"<html>", {}),
        (404, b"<html>", {}),
        (302, b"", {"Location": "http://127.0.0.1:1/"}),
        (500, b"Internal Server Error", {}),
    ],
)
async def test_another_server_at_the_address_is_told(
    api: Script, client: Client, answer: Any
) -> None:
    api.plays(answer)
    with pytest.raises(UnexpectedAnswer, match=f"answered {answer[0]}: this is not the API"):
        await client.get("job_1")


async def test_the_key_goes_with_every_request_and_is_shown_nowhere(
    api: Script, client: Client
) -> None:
    api.plays((401, a_problem(401, "unauthenticated")))
    with pytest.raises(Unauthenticated) as refused:
        await client.get("job_1")
    assert api.seen[0].headers["Authorization"] == "Bearer key-of-mine"
    told = [repr(client), str(refused.value), repr(refused.value), repr(vars(refused.value))]
    assert not [text for text in told if "key-of-mine" in text]


@pytest.mark.parametrize("key", ["", "  ", "two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key must be printable ASCII") as refused:
        Client("http://forebay.example", key)
    assert not key.strip() or key not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["forebay:8080", "http://", "ftp://x", "http://u:secret@x", "http://x/v1", "http://x?a=1"],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="url must be the address") as refused:
        Client(url)
    assert "secret" not in str(refused.value)


async def test_a_retry_whose_answer_was_lost_is_the_retry_that_was_wished(
    api: Script, client: Client
) -> None:
    other = a_problem(409, "other_generation")
    api.plays((200, a_job("failed")), None, (409, other), (200, a_job(generation=2)))
    assert (await client.retry("job_1")).generation == 2
    assert [one.query.get("generation") for one in api.seen] == [None, "1", "1", None]


async def test_a_delete_whose_answer_was_lost_is_done(api: Script, client: Client) -> None:
    gone = (404, a_problem(404, "not_found"))
    api.plays(None, gone)
    await client.delete("job_1")
    api.plays(gone)
    with pytest.raises(NotFound):
        await client.delete("job_1")


async def test_an_old_client_reads_a_new_server(api: Script, client: Client) -> None:
    new = a_job("hibernating", kind="video", done=False, mood={"a": 1}, lane="express")
    api.plays((200, new))
    job = await client.get("job_1")
    assert (job.state, job.kind, job.lane, job.done) == ("hibernating", "video", "express", False)
    assert job.as_json() == new
    assert job.mood == {"a": 1}  # type: ignore[attr-defined]


async def test_text_that_utf_8_cannot_say_comes_through(api: Script, client: Client) -> None:
    odd = {"\ud800": "\udfff\u2028"}
    body = json.dumps(a_job("succeeded", metadata=odd, result=odd)).encode()
    api.plays((200, body, {"Content-Type": "application/json"}))
    job = await client.get("job_1")
    assert (job.metadata, job.result) == (odd, odd)
    api.plays((202, a_job()))
    await client.search("weir", metadata=odd)
    assert api.seen[-1].json["metadata"] == odd


async def test_results_of_a_batch_go_on_behind_the_last_one(api: Script, client: Client) -> None:
    def line(n: int) -> bytes:
        said = {"id": f"job_{n}", "state": "succeeded", "done": True, "result": "a\u2028b"}
        return json.dumps(said, ensure_ascii=False).encode() + b"\n"

    whole = b"".join(line(n) for n in range(4))
    api.plays(line(0) + line(1) + line(2)[:20], None, (200, whole, {}))
    results = [one async for one in client.batch_results("batch_1")]
    assert [one.id for one in results] == ["job_0", "job_1", "job_2", "job_3"]
    assert {one.result for one in results} == {"a\u2028b"}


async def test_a_failed_job_that_says_nothing_more_is_told_all_the_same(
    api: Script, client: Client
) -> None:
    api.plays((200, a_job("failed")))
    with pytest.raises(JobFailed, match="job_1 failed: nothing is known of why"):
        await client.result("job_1")


def test_the_client_needs_nothing_of_the_servers() -> None:
    heavy = ("pymongo", "aio_pika", "fastapi", "aiohttp", "pydantic_settings", "structlog", "typer")
    ask = f"import sys, forebay.client; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True, check=True, env={"PYTHONPATH": str(ROOT / "services")},
    )  # fmt: skip
    assert done.stdout == b"[]\n"


async def test_a_result_that_is_kept_no_longer_is_gone(api: Script, client: Client) -> None:
    api.plays((200, a_job("succeeded")), (410, a_problem(410, "result_expired")))
    with pytest.raises(Gone, match="result_expired"):
        await client.result("job_1")
