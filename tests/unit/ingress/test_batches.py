"""`/v1/batches`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest

from forebay.batches import BatchJobs
from forebay.errors import ErrorCode, JobError, StoreUnavailable
from forebay.jobs import Event, Job, JobKind, JobState, Lane
from forebay.store import JobQuery, JobStore
from forebay.store.memory import MemoryJobStore
from ingress.batch_views import BatchView, ResultLine, result_lines
from ingress.problems import Problem
from tests.ingress_by_hand import JSON, SEARCH, World, ingress, until

UNKNOWN = "batch_" + "0" * 32
BAD = {"kind": "search", "input": {"query": ""}}


def search(n: int, **more: Any) -> dict[str, Any]:
    return {"kind": "search", "input": {"query": f"dam {n}"}, "custom_id": f"item {n}", **more}


async def submit(world: World, jobs: list[Any], **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    return await world.client.post("/v1/batches", json={"jobs": jobs, **more}, headers=headers)


async def accepted(world: World, jobs: list[Any], **more: Any) -> Any:
    answer = await submit(world, jobs, **more)
    assert answer.status_code == 202, answer.text
    BatchView.model_validate_json(answer.content)
    return answer.json()


async def results(world: World, batch_id: str) -> list[Any]:
    answer = await world.client.get(f"/v1/batches/{batch_id}/results")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = answer.content.splitlines()
    return [ResultLine.model_validate_json(line) and json.loads(line) for line in lines]


async def test_every_item_becomes_a_job_and_is_published(world: World) -> None:
    answer = await submit(world, [search(n) for n in range(3)], metadata={"import": "x"})
    batch = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == batch["links"]["self"]
    assert answer.headers["Retry-After"] == "1"
    counted = [batch[name] for name in ("total", "accepted", "rejected", "removed")]
    assert (counted, batch["done"]) == ([3, 3, 0, 0], False)
    assert (batch["counts"], batch["metadata"]) == ({"queued": 3}, {"import": "x"})
    await until(lambda: world.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 3)
    lines = await results(world, batch["id"])
    assert [line["custom_id"] for line in lines] == ["item 0", "item 1", "item 2"]
    job = (await world.client.get(lines[1]["links"]["self"])).json()
    assert (job["batch_id"], job["custom_id"]) == (batch["id"], "item 1")


async def test_a_batch_is_done_when_its_jobs_are(world: World) -> None:
    batch = await accepted(world, [search(0), search(1)])
    ids = [line["id"] for line in await results(world, batch["id"])]
    await world.finish(ids[0], Event.SUCCEEDED, result='{"a":[1]}')
    error = JobError(ErrorCode.PROVIDER_REJECTED, "No.")
    await world.finish(ids[1], Event.FAILED, error=error)
    shown = (await world.client.get(batch["links"]["self"])).json()
    assert (shown["done"], shown["counts"]) == (True, {"succeeded": 1, "failed": 1})
    first, second = await results(world, batch["id"])
    assert (first["state"], first["result"], first["error"]) == ("succeeded", {"a": [1]}, None)
    assert (second["state"], second["result"]) == ("failed", None)
    assert second["error"]["code"] == "provider_rejected"


async def test_lines_of_json_are_a_batch_too(world: World) -> None:
    lines = [search(0), BAD, search(2)]
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n\n{]\n"
    answer = await world.client.post(
        "/v1/batches?on_invalid=skip",
        content=body,
        headers={"Content-Type": "application/x-ndjson; charset=utf-8"},
    )
    batch = answer.json()
    assert answer.status_code == 202
    assert (batch["total"], batch["accepted"], batch["rejected"]) == (4, 2, 2)
    errors = {one["index"]: one["error"]["code"] for one in batch["errors"]}
    assert errors == {1: "validation_error", 3: "malformed_json"}


async def test_invalid_items_are_named_by_their_place_and_nothing_is_accepted(
    world: World,
) -> None:
    past = search(2, deadline="2020-01-01T00:00:00Z")
    answer = await submit(world, [search(0), BAD, past, search(0), {"kind": "mail"}])
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    named = [error["pointer"] for error in answer.json()["errors"]]
    assert named == ["/jobs/1/input/query", "/jobs/2/deadline", "/jobs/3/custom_id", "/jobs/4/kind"]
    assert (await world.client.get("/v1/jobs")).json()["data"] == []


async def test_of_lines_an_invalid_one_is_named_by_its_number_alone(world: World) -> None:
    body = b"\n".join(json.dumps(one).encode() for one in (search(0), BAD)) + b"\n{]\n"
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await world.client.post("/v1/batches", content=body, headers=headers)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/1/input/query", "/2"]


async def test_the_valid_items_are_accepted_if_the_caller_wants_it_so(world: World) -> None:
    batch = await accepted(world, [BAD, search(1), BAD], on_invalid="skip")
    assert (batch["total"], batch["accepted"], batch["rejected"]) == (3, 1, 2)
    for one, index in zip(batch["errors"], (0, 2), strict=True):
        problem = Problem.model_validate(one["error"])
        assert (one["index"], problem.status) == (index, 422)
        assert [part.pointer for part in problem.errors] == ["/input/query"]
    shown = (await world.client.get(batch["links"]["self"])).json()
    assert shown["errors"] == batch["errors"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"jobs": []}, "/jobs"),
        ({}, "/jobs"),
        ({"jobs": [search(0)], "on_invalid": "ask"}, "/on_invalid"),
        ({"jobs": [search(0)], "more": 1}, "/more"),
        ({"jobs": [search(0)] * 10_001}, "/jobs"),
    ],
    ids=["empty", "missing", "on_invalid", "unknown", "too many"],
)
async def test_a_batch_that_is_none_is_422(world: World, body: Any, place: str) -> None:
    answer = await world.client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert [error["pointer"] for error in answer.json()["errors"]] == [place]


async def test_one_key_is_one_batch(world: World) -> None:
    headers = {"Idempotency-Key": "import-7"}
    first = await submit(world, [search(0), search(1)], headers=headers)
    again = await submit(world, [search(0), search(1)], headers=headers)
    other = await submit(world, [search(0)], headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await world.client.get("/v1/jobs")).json()["data"]) == 2


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [("", "?on_invalid=reject", 202), ("", "?on_invalid=skip", 422), ("?on_invalid=skip", "", 422)],
)
async def test_of_lines_the_key_is_for_what_happens_to_invalid_ones_too(
    world: World, first: str, then: str, status: int
) -> None:
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "import-7"}
    line = json.dumps(search(0)).encode()
    answers = [
        await world.client.post(f"/v1/batches{query}", content=line, headers=headers)
        for query in (first, then)
    ]
    assert [answer.status_code for answer in answers] == [202, status]
    assert status == 202 or answers[1].json()["code"] == "idempotency_key_reused"


async def test_a_repeat_completes_what_was_left_half_done(world: World) -> None:
    headers = {"Idempotency-Key": "import-7"}
    jobs = [search(n) for n in range(3)]
    insert, tries = world.store.insert, 0

    async def fails_once(batch: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            await insert(batch[:2])
            raise StoreUnavailable
        return await insert(batch)

    world.store.insert = fails_once  # type: ignore[method-assign]
    first = await submit(world, jobs, headers=headers)
    assert (first.status_code, first.json()["code"]) == (503, "store_unavailable")
    halves = (await world.client.get("/v1/jobs")).json()["data"]
    batch_id = halves[0]["batch_id"]
    assert (await world.client.get(f"/v1/batches/{batch_id}")).status_code == 404
    again = await accepted(world, jobs, headers=headers)
    assert (again["id"], again["counts"]) == (batch_id, {"queued": 3})
    assert {job["id"] for job in halves} < {line["id"] for line in await results(world, batch_id)}


async def test_a_canceled_batch_runs_no_more(world: World) -> None:
    batch = await accepted(world, [search(n) for n in range(3)])
    ids = [line["id"] for line in await results(world, batch["id"])]
    await world.claim(ids[0])
    await world.finish(ids[1], Event.SUCCEEDED, result="1")
    answer = await world.client.post(batch["links"]["cancel"])
    assert answer.status_code == 202
    assert answer.json()["counts"] == {"canceling": 1, "succeeded": 1, "canceled": 1}
    await world.store.rescue(0)
    again = await world.client.post(batch["links"]["cancel"])
    assert again.json()["counts"] == answer.json()["counts"]


async def test_exactly_the_failed_run_again(world: World) -> None:
    batch = await accepted(world, [search(n) for n in range(4)])
    ids = [line["id"] for line in await results(world, batch["id"])]
    error = JobError(ErrorCode.PROVIDER_REJECTED, "No.")
    await world.finish(ids[0], Event.FAILED, error=error)
    await world.finish(ids[1], Event.SUCCEEDED, result="1")
    await world.store.cancel("default", ids[2])
    answer = await world.client.post(batch["links"]["retry"])
    assert answer.status_code == 202
    assert answer.json()["counts"] == {"queued": 2, "succeeded": 1, "canceled": 1}
    generations = [(await world.stored(job_id)).generation for job_id in ids]
    assert generations == [2, 1, 1, 1]
    await world.client.post(batch["links"]["retry"] + "?state=canceled,succeeded")
    assert [(await world.stored(job_id)).generation for job_id in ids] == [2, 2, 2, 1]
    assert (await world.stored(ids[2])).state is JobState.QUEUED


@pytest.mark.parametrize("path", ["", "/results", "/cancel", "/retry"])
@pytest.mark.parametrize("batch_id", [UNKNOWN, "nonsense"])
async def test_no_such_batch_is_404(world: World, batch_id: str, path: str) -> None:
    method = "POST" if path in {"/cancel", "/retry"} else "GET"
    answer = await world.client.request(method, f"/v1/batches/{batch_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_what_is_deleted_is_counted_as_removed(world: World) -> None:
    batch = await accepted(world, [search(0), search(1)])
    job_id = (await results(world, batch["id"]))[0]["id"]
    await world.store.cancel("default", job_id)
    await world.client.delete(f"/v1/jobs/{job_id}")
    shown = (await world.client.get(batch["links"]["self"])).json()
    assert (shown["removed"], shown["counts"], shown["done"]) == (1, {"queued": 1}, False)


async def test_no_more_batches_at_a_time_than_there_are_places() -> None:
    async with ingress(max_batches=1) as world:
        world.store.free.clear()
        first = asyncio.create_task(submit(world, [search(0)]))
        await world.store.inserting.wait()
        answer = await submit(world, [search(1)])
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
        world.store.free.set()
        assert (await first).status_code == 202


async def test_a_batch_over_the_limit_is_413() -> None:
    async with ingress(max_batch_bytes=1024) as world:
        answer = await submit(world, [search(n) for n in range(100)])
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_an_item_may_be_as_large_as_a_job_alone() -> None:
    async with ingress(max_body_bytes=1024) as world:
        large = search(1, metadata={"text": "x" * 1024})
        batch = await accepted(world, [search(0), large], on_invalid="skip")
        (refused,) = batch["errors"]
        assert (refused["index"], refused["error"]["code"]) == (1, "payload_too_large")


@pytest.mark.parametrize("skip", [b"", b', "on_invalid": "skip"'])
async def test_a_document_with_an_item_that_is_not_json_is_none(world: World, skip: bytes) -> None:
    body = b'{"jobs": [{"kind": "search", "input": {"query": "a"}}, {"kind": }]%b}' % skip
    answer = await world.client.post("/v1/batches", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
    assert answer.json()["detail"].startswith("/jobs/1: Invalid JSON")
    assert (await world.client.get("/v1/jobs")).json()["data"] == []


async def test_ten_thousand_bad_items_are_named_in_few_words(world: World) -> None:
    bad = {"kind": "search", "input": {}, **{f"{n}{'long' * 30}": 1 for n in range(30)}}
    batch = await accepted(world, [search(0), *([bad] * 9_999)], on_invalid="skip")
    errors = [one["error"] for one in batch["errors"]]
    assert [one["index"] for one in batch["errors"]] == [*range(1, 10_000)]
    assert {one["detail"] for one in errors} == {"31 parts of the request are not valid."}
    assert [len(errors[n]["errors"]) for n in (0, -1)] == [3, 0]
    assert len(json.dumps(batch)) < 5 * 1024 * 1024


async def test_on_invalid_of_a_document_is_in_the_document(world: World) -> None:
    answer = await world.client.post("/v1/batches?on_invalid=skip", json={"jobs": [search(0)]})
    assert [error["parameter"] for error in answer.json()["errors"]] == ["on_invalid"]


async def test_the_jobs_of_a_batch_are_listed_by_its_id_page_by_page(world: World) -> None:
    await world.submit()
    batch = await accepted(world, [search(n) for n in range(3)])
    query = {"batch_id": batch["id"], "limit": "2", "order": "oldest"}
    first = await world.client.get("/v1/jobs", params=query)
    names = [job["custom_id"] for job in first.json()["data"]]
    following = await world.client.get(first.links["next"]["url"])
    names += [job["custom_id"] for job in following.json()["data"]]
    assert names == ["item 0", "item 1", "item 2"]
    assert "next" not in following.links


async def test_the_jobs_of_a_replay_are_listed_by_its_id_though_born_elsewhere(
    world: World,
) -> None:
    job = await world.submit()
    await world.submit()
    await world.finish(job["id"], Event.FAILED, error=JobError(ErrorCode.PROVIDER_ERROR, "No."))
    batch = (await world.client.post("/v1/jobs/replay", json={})).json()
    listed = await world.client.get("/v1/jobs", params={"batch_id": batch["id"]})
    assert [one["id"] for one in listed.json()["data"]] == [job["id"]]


async def test_a_batch_that_is_not_there_has_no_jobs_and_nonsense_is_refused(world: World) -> None:
    await world.submit()
    listed = await world.client.get("/v1/jobs", params={"batch_id": UNKNOWN})
    assert listed.json()["data"] == []
    for nonsense in ("", "batch_1", UNKNOWN + "0"):
        refused = await world.client.get("/v1/jobs", params={"batch_id": nonsense})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["parameter"] == "batch_id"


async def test_a_repeat_after_the_deadline_of_a_job_is_the_same_batch(world: World) -> None:
    limit = (world.clock.now + timedelta(seconds=60)).isoformat()
    body = {"jobs": [{"kind": "search", "input": SEARCH, "deadline": limit}]}
    key = {"Idempotency-Key": "timed"}
    first = await world.client.post("/v1/batches", json=body, headers=key)
    world.clock.move(61)
    again = await world.client.post("/v1/batches", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await world.client.post("/v1/batches", json=body)).status_code == 422


class ReadSoFar:
    """The store, and how many results were asked of it."""

    def __init__(self, store: MemoryJobStore) -> None:
        self._store = store
        self.results = 0
        self.largest_page = 0

    async def list(self, query: JobQuery) -> Sequence[Job]:
        page = await self._store.list(query)
        self.largest_page = max(self.largest_page, len(page))
        return page

    async def result(self, job: Job) -> str | None:
        self.results += 1
        return await self._store.result(job)


async def test_results_are_read_as_they_are_sent(world: World) -> None:
    batch = await accepted(world, [search(n) for n in range(120)])
    for line in await results(world, batch["id"]):
        await world.finish(line["id"], Event.SUCCEEDED, result=f'"{"x" * 40_000}"')
    store = ReadSoFar(world.store)
    query = JobQuery(tenant="default", batch=BatchJobs(batch["id"]), with_results=True)
    pieces = result_lines(cast("JobStore", store), query)
    first = await anext(pieces)
    assert store.results <= 3, "a few are read ahead, not the page"
    rest = [piece async for piece in pieces]
    assert store.largest_page <= 50
    assert len(b"".join([first, *rest]).splitlines()) == 120
    assert max(map(len, rest)) < 128 * 1024
