from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forebay.broker import JobMessage, NotPublished
from forebay.jobs import JobKind, JobState, Lane, OnUnknown
from forebay.requests import CrawlRequest, LlmRequest, SearchRequest
from ingress.views import JobView
from tests.ingress_by_hand import SEARCH, World, ingress

CRAWL = {"url": "https://example.com/", "formats": ["markdown", "links"]}
LLM = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}


async def test_a_receipt_says_where_the_job_is_and_when_to_ask(world: World) -> None:
    response = await world.client.post("/v1/search", json=SEARCH)
    job = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Content-Type"] == "application/json"
    assert (job["state"], job["done"], job["attempts"]) == ("queued", False, 0)
    assert job["wait"] == {"reason": "queued"}


async def test_a_receipt_equals_a_get_right_after_and_the_documented_model(world: World) -> None:
    receipt = await world.client.post("/v1/llm", json=LLM)
    again = await world.client.get(receipt.json()["links"]["self"])
    without_publishing = {"published_at"}
    assert receipt.json().keys() - without_publishing == JobView.model_fields.keys() - {"history"}
    assert receipt.json() == again.json()
    JobView.model_validate_json(receipt.content)


@pytest.mark.parametrize(
    ("kind", "body", "model"),
    [("search", SEARCH, SearchRequest), ("crawl", CRAWL, CrawlRequest), ("llm", LLM, LlmRequest)],
)
async def test_every_kind_is_taken_on_both_paths(
    world: World, kind: str, body: dict[str, Any], model: Any
) -> None:
    short = await world.client.post(f"/v1/{kind}", json=body)
    long = await world.client.post("/v1/jobs", json={"kind": kind, "input": body})
    jobs = [await world.stored(answer.json()["id"]) for answer in (short, long)]
    assert [job.kind for job in jobs] == [JobKind(kind)] * 2
    assert jobs[0].input == jobs[1].input
    assert model.model_validate_json(jobs[0].input) == model(**body)


async def test_every_field_of_a_submission_reaches_the_job(world: World) -> None:
    response = await world.client.post(
        "/v1/jobs",
        json={
            "kind": "search",
            "input": SEARCH,
            "lane": "interactive",
            "provider": {"order": ["brave", "tavily"], "allow_fallbacks": False},
            "not_before": "2100-01-01T01:00:00+01:00",
            "start_by": "2100-01-02T00:00:00Z",
            "deadline": "2100-01-03T00:00:00.123999Z",
            "retry": {"max_attempts": 7, "on_unknown": "fail"},
            "result_ttl_s": 120,
            "tags": ["a", "b"],
            "metadata": {"user": "42"},
        },
        headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"},
    )
    shown = response.json()
    job = await world.stored(shown["id"])
    assert (job.lane, job.state) == (Lane.INTERACTIVE, JobState.SCHEDULED)
    assert (job.provider.order, job.provider.allow_fallbacks) == (("brave", "tavily"), False)
    assert (job.max_attempts, job.on_unknown) == (7, OnUnknown.FAIL)
    assert (job.result_ttl_s, job.tags, job.tenant) == (120, ("a", "b"), "default")
    assert job.traceparent == f"00-{'a' * 32}-{'b' * 16}-01"
    assert shown["not_before"] == "2100-01-01T00:00:00.000Z"
    assert shown["start_by"] == "2100-01-02T00:00:00.000Z"
    assert shown["deadline"] == "2100-01-03T00:00:00.123Z"
    assert shown["metadata"] == {"user": "42"}
    assert (shown["wait"], shown["queued_at"]) == ({"reason": "scheduled"}, None)
    assert response.headers["Retry-After"] == "3600"


async def test_a_default_of_attempts_is_the_setting_of_the_kind(world: World) -> None:
    assert (await world.submit())["max_attempts"] == 5


@pytest.mark.parametrize("trace", ["nonsense", f"00-{'0' * 32}-{'b' * 16}-01", "00-x\x7f"])
async def test_a_trace_parent_that_is_not_one_is_left_out(world: World, trace: str) -> None:
    job = await world.submit(traceparent=trace)
    assert (await world.stored(job["id"])).traceparent is None


async def test_a_job_whose_time_has_come_is_queued(world: World) -> None:
    body = {"kind": "search", "input": SEARCH, "not_before": "2001-01-01T00:00:00Z"}
    response = await world.client.post("/v1/jobs", json=body)
    assert (response.json()["state"], response.json()["not_before"]) == ("queued", None)


async def test_an_accepted_job_is_published_and_marked_behind_the_answer() -> None:
    async with ingress() as world:
        job = await world.submit()
        scheduled = {"kind": "search", "input": SEARCH, "not_before": "2100-01-01T00:00:00Z"}
        waits = (await world.client.post("/v1/jobs", json=scheduled)).json()
    # Left: the pump has drained.
    assert world.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 1
    assert (await world.stored(job["id"])).published_at is not None
    assert (await world.stored(waits["id"])).published_at is None


async def test_the_answer_does_not_wait_for_the_broker() -> None:
    class Stuck:
        def __init__(self) -> None:
            self.free = asyncio.Event()

        async def publish(self, messages: list[JobMessage]) -> list[NotPublished | None]:
            await self.free.wait()
            return [None] * len(messages)

    stuck = Stuck()
    async with ingress(publisher=stuck) as world:  # type: ignore[arg-type] # only publish is used
        job = await world.submit()
        assert (await world.stored(job["id"])).published_at is None
        stuck.free.set()
    assert (await world.stored(job["id"])).published_at is not None


async def test_with_the_broker_down_jobs_are_accepted_and_left_to_the_relay() -> None:
    async with ingress() as world:
        world.broker.stop()
        job = await world.submit()
    waiting = await world.store.unpublished(older_than_s=0, limit=10)
    assert [ref.id for ref in waiting] == [job["id"]]


@pytest.mark.parametrize("kind", ["search", "crawl", "llm"])
async def test_five_hundred_at_once_are_each_accepted_once(world: World, kind: str) -> None:
    body = {"search": SEARCH, "crawl": CRAWL, "llm": LLM}[kind]
    jobs = await asyncio.gather(*(world.submit(kind, body) for _ in range(500)))
    assert len({job["id"] for job in jobs}) == 500
    accepted = world.services.metrics.accepted.labels(kind, "default")
    assert accepted._value.get() == 500


async def test_a_caller_who_is_cut_off_in_the_middle_has_its_job_stored(world: World) -> None:
    world.store.free.clear()
    request = asyncio.create_task(world.client.post("/v1/search", json=SEARCH))
    await world.store.inserting.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    world.store.free.set()
    other = await world.submit()
    jobs = (await world.client.get("/v1/jobs")).json()["data"]
    assert len(jobs) == 2
    assert other["id"] in {job["id"] for job in jobs}


async def test_a_caller_who_leaves_during_the_commit_does_not_stop_it(world: World) -> None:
    """The server says `http.disconnect`; a framework that listens would cancel the endpoint."""
    said: list[Any] = []
    messages = iter(
        [
            {"type": "http.request", "body": json.dumps(SEARCH).encode(), "more_body": False},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message)

    await world.app(post_scope("/v1/search"), receive, send)
    assert said[0]["status"] == 202
    assert len((await world.client.get("/v1/jobs")).json()["data"]) == 1


async def test_a_caller_who_leaves_while_sending_gets_nothing_accepted(world: World) -> None:
    messages = iter(
        [
            {"type": "http.request", "body": b'{"query":', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(_: Any) -> None:
        return None

    await world.app(post_scope("/v1/search"), receive, send)
    assert (await world.client.get("/v1/jobs")).json()["data"] == []
    assert world.logs == []


def post_scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


VERBATIM = {
    "operator": {"$ne": None, "$where": "sleep(1)"},
    "dotted.key": {"a.b": 1, "": 2, "$": 3},
    "nul": "a\x00b",
    "huge": 2**70,
    "unicode": "\U0001f30a \u202e \u0085",
    "nested": [[[]], {"__proto__": 1}],
    "numbers": [1.5, -0.0, 1e300, True, None],
}


async def test_what_a_caller_writes_comes_back_as_it_was(world: World) -> None:
    body = {
        "kind": "search",
        "input": {"query": '{"$gt": ""} a\x00b'},
        "tags": ["$ne", "a.b", "nul\x00"],
        "metadata": VERBATIM,
    }
    job = (await world.client.post("/v1/jobs", json=body)).json()
    shown = (await world.client.get(job["links"]["self"])).json()
    assert shown["metadata"] == VERBATIM
    assert shown["tags"] == body["tags"]
    stored = await world.stored(job["id"])
    assert SearchRequest.model_validate_json(stored.input).query == '{"$gt": ""} a\x00b'
    listed = (await world.client.get("/v1/jobs")).json()["data"]
    assert listed[0]["metadata"] == VERBATIM


async def test_numbers_with_thousands_of_digits_come_back_digit_by_digit(world: World) -> None:
    digits = "9" * 4000
    content = f'{{"kind":"search","input":{{"query":"x"}},"metadata":{{"n":{digits}}}}}'
    answer = await world.client.post(
        "/v1/jobs", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 202
    shown = await world.client.get(answer.headers["Location"])
    assert f'"n":{digits}' in shown.text
