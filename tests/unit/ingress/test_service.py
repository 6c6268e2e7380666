"""What happens when the ingress, or what it stands on, is not well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from forebay.broker import JobMessage, NotPublished
from forebay.errors import ConfigurationError, ErrorCode
from ingress.problems import PROBLEMS, Problem, ProblemCode
from ingress.settings import Authentication, IngressSettings
from tests.ingress_by_hand import SEARCH, World, ingress, until

CANARY = "canary-7f3a"


async def test_with_the_store_away_nothing_is_accepted_and_it_says_when_to_come_back(
    world: World,
) -> None:
    world.store.away = True
    answers = await asyncio.gather(
        *(world.client.post("/v1/search", json=SEARCH) for _ in range(50))
    )
    waits = set()
    for answer in answers:
        problem = Problem.model_validate_json(answer.content)
        assert (answer.status_code, problem.code) == (503, "store_unavailable")
        assert problem.retryable
        assert int(answer.headers["Retry-After"]) == problem.retry_after_s
        waits.add(problem.retry_after_s)
    assert len(waits) > 1, "jitter: all 50 would come back together"
    world.store.away = False
    assert (await world.client.get("/v1/jobs")).json()["data"] == []


async def test_a_store_that_stands_still_is_503_after_the_time_limit() -> None:
    async with ingress(accept_timeout_s=0.05) as world:
        world.store.free.clear()
        answer = await world.client.post("/v1/search", json=SEARCH)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        world.store.free.set()


async def test_when_the_write_may_have_happened_nothing_is_said_of_it_but_how_to_repeat() -> None:
    key = {"Idempotency-Key": "unknown-1"}
    async with ingress(accept_timeout_s=0.05) as world:
        world.store.free.clear()
        answer = await world.client.post("/v1/search", json=SEARCH, headers=key)
        said = answer.json()["detail"]
        assert "nothing was accepted" not in said.lower()
        assert "is not known: repeat it under the same Idempotency-Key" in said
        world.store.free.set()
        again = await world.client.post("/v1/search", json=SEARCH, headers=key)
        [job] = (await world.client.get("/v1/jobs")).json()["data"]
        assert (again.status_code, again.json()["id"]) == (202, job["id"])


@pytest.mark.parametrize("path", ["", "/result"])
async def test_reading_with_the_store_away_is_503(world: World, path: str) -> None:
    world.store.away = True
    answer = await world.client.get(f"/v1/jobs/job_{'0' * 32}{path}")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_more_in_flight_than_the_bound_is_503_overloaded() -> None:
    async with ingress(max_pending=3) as world:
        world.store.free.clear()
        held = [asyncio.create_task(world.client.post("/v1/search", json=SEARCH)) for _ in range(3)]
        await world.store.inserting.wait()
        await until(lambda: world.services.desk.in_flight == 3)
        refused = await world.client.post("/v1/search", json=SEARCH)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert "nothing was accepted" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        world.store.free.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {202}


@pytest.mark.parametrize("path", ["jobs", "search", "crawl", "llm"])
async def test_who_comes_when_the_oldest_accept_has_waited_long_is_turned_away_at_the_door(
    path: str,
) -> None:
    async with ingress(accept_timeout_s=2.0) as world:
        world.store.free.clear()
        held = asyncio.create_task(world.client.post("/v1/search", json=SEARCH))
        await world.store.inserting.wait()
        assert not world.services.desk.is_behind
        await asyncio.wait([held], timeout=1.1)
        assert world.services.desk.is_behind
        # Not even its body is read: it would be refused for something else.
        refused = await world.client.post(f"/v1/{path}", content=b"{")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert "nothing was accepted" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await world.client.get("/v1/jobs")).status_code == 200
        world.store.free.set()
        assert (await held).status_code == 202
        assert (await world.client.post("/v1/search", json=SEARCH)).status_code == 202


async def test_readiness_follows_the_store_and_liveness_does_not(world: World) -> None:
    assert (await world.client.get("/readyz")).status_code == 200
    async with ingress() as other:
        other.store.away = True
        ready = await other.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "store_unavailable")
        assert (await other.client.get("/livez")).status_code == 200


async def test_readiness_is_not_about_the_broker(world: World) -> None:
    world.broker.stop()
    assert (await world.client.get("/readyz")).status_code == 200


async def test_what_is_counted_can_be_scraped(world: World) -> None:
    await world.submit()
    await world.client.post("/v1/search", json={})
    text = (await world.client.get("/metrics")).text
    assert 'forebay_jobs_accepted_total{kind="search",lane="default"} 1.0' in text
    assert 'forebay_problems_total{code="validation_error"} 1.0' in text
    assert "forebay_accept_seconds_count 1.0" in text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/search", 405, "method_not_allowed"),
        ("POST", "/v1/jobs/job_" + "0" * 32 + "/cancel", 404, "not_found"),
    ],
)
async def test_paths_and_methods_that_are_not_there(
    world: World, method: str, path: str, status: int, code: str
) -> None:
    answer = await world.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    Problem.model_validate_json(answer.content)


async def test_a_method_that_is_not_taken_says_which_are(world: World) -> None:
    answer = await world.client.delete("/v1/jobs")
    assert answer.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("path", [f"/{CANARY}", f"/v1/jobs/{CANARY}", f"/v1/{CANARY}?q={CANARY}"])
async def test_a_problem_does_not_repeat_the_path(world: World, path: str) -> None:
    assert CANARY not in (await world.client.get(path)).text


async def test_a_defect_is_a_problem_and_logged_without_what_it_says(world: World) -> None:
    async def defect(*_: str) -> None:
        raise RuntimeError(CANARY)

    world.store.get = defect  # type: ignore[method-assign,assignment] # a defect of ours
    answer = await world.client.get("/v1/jobs/job_" + "0" * 32)
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.code) == (500, "internal")
    assert CANARY not in answer.text
    [line] = world.logs
    assert (line["event"], line["request_id"]) == ("request.failed", problem.request_id)
    assert CANARY not in str(line)


def test_every_code_has_its_status() -> None:
    assert {*ProblemCode, *ErrorCode} == set(PROBLEMS)
    contract = {
        "malformed_json": 400,
        "not_found": 404,
        "request_timeout": 408,
        "result_expired": 410,
        "payload_too_large": 413,
        "unsupported_media_type": 415,
        "validation_error": 422,
        "idempotency_key_reused": 422,
        "deadline_in_past": 422,
        "address_forbidden": 422,
        "headers_too_large": 431,
        "overloaded": 503,
        "store_unavailable": 503,
        "provider_error": 502,
        "provider_timeout": 504,
        "provider_rejected": 422,
        "provider_auth": 502,
        "deadline_exceeded": 504,
        "canceled": 409,
        "outcome_unknown": 502,
        "attempts_exhausted": 502,
        "robots_denied": 403,
        "too_large": 413,
    }
    assert {code: PROBLEMS[code].status for code in contract} == contract


class Broken:
    """A publisher with a defect."""

    def __init__(self) -> None:
        self.calls = 0

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("a defect")
        return [None] * len(messages)


async def test_a_turn_of_the_pump_that_fails_does_not_end_it() -> None:
    async with ingress(publisher=Broken()) as world:
        lost = await world.submit()
        await until(lambda: world.services.desk.unpublished == 0)
        found = await world.submit()
    assert (await world.stored(lost["id"])).published_at is None
    assert (await world.stored(found["id"])).published_at is not None
    assert [line["event"] for line in world.logs] == ["loop.failed"]


async def test_what_is_beyond_the_bound_of_the_pump_is_left_to_the_relay() -> None:
    class Stuck:
        async def publish(self, _: Any) -> Any:
            await asyncio.Event().wait()

    async with ingress(publisher=Stuck(), max_unpublished=2, grace_s=0) as world:
        jobs = [await world.submit() for _ in range(5)]
        assert world.services.desk.unpublished == 2
    assert len(await world.store.unpublished(older_than_s=0, limit=10)) == len(jobs)
    assert [line["event"] for line in world.logs] == ["publish.failed"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_loopback_needs_no_permission(host: str) -> None:
    IngressSettings(host=host).require_safe_address(Authentication.OPEN)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com"])  # noqa: S104 - refused
def test_open_mode_on_another_address_must_be_allowed(host: str) -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_INGRESS_ALLOW_OPEN=true"):
        IngressSettings(host=host).require_safe_address(Authentication.OPEN)
    IngressSettings(host=host, allow_open=True).require_safe_address(Authentication.OPEN)
    IngressSettings(host=host).require_safe_address(Authentication.KEYS)
