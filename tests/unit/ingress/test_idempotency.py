from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from starlette.datastructures import Headers

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event
from ingress.idempotency import HEADER, read_key
from ingress.problems import RequestRefused
from tests.ingress_by_hand import JSON, SEARCH, World

KEY = {"Idempotency-Key": "order-4711"}


async def test_the_same_key_and_body_is_the_same_job(world: World) -> None:
    first = await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    again = await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]


async def test_fifty_at_once_with_one_key_are_one_job(world: World) -> None:
    answers = await asyncio.gather(
        *(world.client.post("/v1/search", json=SEARCH, headers=KEY) for _ in range(50))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert replayed.count("true") == 49
    assert len((await world.client.get("/v1/jobs")).json()["data"]) == 1


async def test_the_same_key_with_another_body_is_422(world: World) -> None:
    await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    other = await world.client.post("/v1/search", json={"query": "canary"}, headers=KEY)
    problem = other.json()
    assert (other.status_code, problem["code"]) == (422, "idempotency_key_reused")
    assert problem["errors"] == [{"header": "Idempotency-Key", "detail": "Used with another body"}]
    assert "canary" not in other.text
    assert "order-4711" not in other.text


async def test_the_same_key_on_another_path_is_422(world: World) -> None:
    await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    body = {"kind": "search", "input": SEARCH}
    other = await world.client.post("/v1/jobs", json=body, headers=KEY)
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (b'{"query":"x","limit":5}', b'{ "limit" : 5,\n "query" : "x" }'),
        (b'{"query":"\\u0041"}', b'{"query":"A"}'),
    ],
)
async def test_what_the_body_says_counts_and_not_its_bytes(
    world: World, one: bytes, same: bytes
) -> None:
    for content in (one, same):
        answer = await world.client.post("/v1/search", content=content, headers=JSON | KEY)
        assert answer.status_code == 202


async def test_the_key_is_the_same_with_and_without_quotes(world: World) -> None:
    bare = await world.submit(**{"Idempotency-Key": "abc"})
    quoted = await world.submit(**{"Idempotency-Key": '"abc"'})
    assert bare["id"] == quoted["id"]


async def test_a_replay_of_a_finished_job_answers_200_with_its_result(world: World) -> None:
    job = await world.submit(**KEY)
    await world.finish(job["id"], Event.SUCCEEDED, result='{"results": []}')
    again = await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json()["result"] == {"results": []}
    assert "Retry-After" not in again.headers


async def test_a_replay_of_a_failed_job_answers_the_failed_job(world: World) -> None:
    job = await world.submit(**KEY)
    error = JobError(ErrorCode.PROVIDER_REJECTED, "It refuses the request.")
    await world.finish(job["id"], Event.FAILED, error=error)
    again = await world.client.post("/v1/search", json=SEARCH, headers=KEY)
    assert (again.status_code, again.json()["state"]) == (200, "failed")


@pytest.mark.parametrize("limit", ["deadline", "start_by"])
async def test_a_repeat_after_the_jobs_time_has_passed_is_the_same_job(
    world: World, limit: str
) -> None:
    soon = (world.clock.now + timedelta(seconds=10)).isoformat()
    body = {"kind": "search", "input": SEARCH, limit: soon}
    first = await world.client.post("/v1/jobs", json=body, headers=KEY)
    world.clock.now += timedelta(seconds=20)
    again = await world.client.post("/v1/jobs", json=body, headers=KEY)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"]
    other = {"kind": "search", "input": {"query": "another"}, limit: soon}
    reused = await world.client.post("/v1/jobs", json=other, headers=KEY)
    assert reused.json()["code"] == "idempotency_key_reused"
    unknown = await world.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "new"})
    assert unknown.json()["code"] == "deadline_in_past"


async def test_while_the_store_is_away_nobody_is_told_that_a_repeat_came_too_late(
    world: World,
) -> None:
    soon = (world.clock.now + timedelta(seconds=10)).isoformat()
    body = {"kind": "search", "input": SEARCH, "deadline": soon}
    world.clock.now += timedelta(seconds=20)
    world.store.away = True
    again = await world.client.post("/v1/jobs", json=body, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (503, "store_unavailable")


async def test_a_refused_body_does_not_use_up_the_key(world: World) -> None:
    assert (await world.client.post("/v1/search", json={}, headers=KEY)).status_code == 422
    assert (await world.client.post("/v1/search", json=SEARCH, headers=KEY)).status_code == 202


async def test_a_key_with_a_body_full_of_digits_is_no_defect(world: World) -> None:
    content = json.dumps({"kind": "search", "input": SEARCH, "metadata": {"n": 0}})
    content = content.replace('"n": 0', f'"n": {"9" * 4200}')
    for _ in range(2):
        answer = await world.client.post("/v1/jobs", content=content, headers=JSON | KEY)
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("$ne", "$ne"),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_is_read_bare_or_quoted(header: str, key: str) -> None:
    assert read_key(Headers({HEADER: header})) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        '""',
        '"abc',
        'abc"def"\x7f',
        "a b",
        '"a b"',
        "é",
        "x" * 256,
        f'"{"x" * 256}"',
        "a\tb",
        '"',
    ],
)
def test_a_key_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_key(Headers({HEADER: header}))
    assert refused.value.errors[0].header == "Idempotency-Key"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", SEARCH),
        ("/v1/batches", {"jobs": [{"kind": "search", "input": SEARCH}]}),
        ("/v1/jobs/replay", {}),
    ],
)
async def test_two_keys_of_one_request_are_refused(world: World, path: str, body: Any) -> None:
    headers = [(HEADER, "one"), (HEADER, "other")]
    answer = await world.client.post(path, json=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"header": HEADER, "detail": "It may be sent once only"}]


async def test_without_the_header_every_request_is_a_job_of_its_own(world: World) -> None:
    jobs: list[Any] = [await world.submit() for _ in range(2)]
    assert jobs[0]["id"] != jobs[1]["id"]
