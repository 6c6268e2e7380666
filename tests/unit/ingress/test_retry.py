"""`POST /v1/jobs/{id}/retry`."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.broker import JobMessage
from forebay.broker.envelope import read
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, JobKind, Lane
from ingress.problems import Problem
from ingress.views import JobView
from tests.ingress_by_hand import World, until

UNKNOWN = "job_" + "0" * 32
EXHAUSTED = JobError(ErrorCode.ATTEMPTS_EXHAUSTED, "No attempt of 5 succeeded.")


async def a_dead_job(world: World) -> Any:
    job = await world.submit()
    await world.finish(job["id"], Event.FAILED, error=EXHAUSTED, dead_lettered=True)
    return job


def waiting(world: World) -> int:
    return world.broker.waiting(JobKind.SEARCH, Lane.DEFAULT)


def published(world: World) -> list[tuple[str, int]]:
    """Takes every message: the job and the generation that it names."""
    found = []
    while (stored := world.broker.take(JobKind.SEARCH, Lane.DEFAULT)) is not None:
        message = read(stored.envelope, JobKind.SEARCH)
        assert isinstance(message, JobMessage)
        found.append((message.job_id, message.generation))
    return found


async def retry(world: World, job_id: str, query: str = "") -> Any:
    return await world.client.post(f"/v1/jobs/{job_id}/retry{query}")


async def test_a_terminal_job_is_queued_again_and_published_at_once(world: World) -> None:
    job = await a_dead_job(world)
    await until(lambda: waiting(world) == 1)
    answer = await retry(world, job["id"])
    shown = JobView.model_validate_json(answer.content)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert (shown.id, shown.state, shown.done) == (job["id"], "queued", False)
    assert (shown.generation, shown.attempts, shown.error) == (2, 0, None)
    await until(lambda: waiting(world) == 2)
    assert published(world) == [(job["id"], 1), (job["id"], 2)]


async def test_a_retried_job_can_succeed(world: World) -> None:
    job = await a_dead_job(world)
    await retry(world, job["id"])
    await world.finish(job["id"], Event.SUCCEEDED, result="[1]")
    shown = (await world.client.get(f"/v1/jobs/{job['id']}?include=attempts")).json()
    assert (shown["state"], shown["result"], shown["generation"]) == ("succeeded", [1], 2)
    assert [attempt["generation"] for attempt in shown["history"]] == [1, 2]


async def test_a_succeeded_job_can_run_again_and_its_result_is_gone(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result="[1]")
    assert (await retry(world, job["id"])).status_code == 202
    shown = (await world.client.get(f"/v1/jobs/{job['id']}")).json()
    assert (shown["state"], shown["result"]) == ("queued", None)


async def test_a_job_that_is_not_done_is_409(world: World) -> None:
    job = await world.submit()
    queued = await retry(world, job["id"])
    await world.claim(job["id"])
    running = await retry(world, job["id"])
    for answer in (queued, running):
        problem = Problem.model_validate_json(answer.content)
        assert (answer.status_code, problem.code, problem.retryable) == (409, "not_terminal", True)
        assert problem.instance == f"/v1/jobs/{job['id']}/retry"


async def test_a_second_retry_is_409_while_the_first_runs(world: World) -> None:
    job = await a_dead_job(world)
    assert (await retry(world, job["id"])).status_code == 202
    assert (await retry(world, job["id"])).status_code == 409


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense", "%24ne"])
async def test_an_unknown_job_is_404(world: World, job_id: str) -> None:
    answer = await retry(world, job_id)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_job_of_another_tenant_is_404_and_stays_as_it_is(world: World) -> None:
    job = await a_dead_job(world)
    other = (await world.stored(job["id"])).evolve(id="job_" + "1" * 32, tenant="other")
    await world.store.insert([other])
    assert (await retry(world, other.id)).status_code == 404
    assert await world.store.get("other", other.id) == other


async def test_a_store_that_does_not_answer_is_503_and_promises_nothing(world: World) -> None:
    job = await a_dead_job(world)
    world.store.away = True
    answer = await retry(world, job["id"])
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "is not known" in answer.json()["detail"]


async def test_a_retry_of_the_generation_that_was_seen_is_done_once(world: World) -> None:
    job = await a_dead_job(world)
    first = await retry(world, job["id"], "?generation=1")
    assert (first.status_code, first.json()["generation"]) == (202, 2)
    await world.finish(job["id"], Event.SUCCEEDED, result="[1]")
    second = await retry(world, job["id"], "?generation=1")
    problem = Problem.model_validate_json(second.content)
    told = (second.status_code, problem.code, problem.retryable)
    assert told == (409, "other_generation", False)
    assert problem.detail == "The job is not in generation 1; look at it before it is run again."
    shown = (await world.client.get(f"/v1/jobs/{job['id']}")).json()
    assert (shown["state"], shown["result"], shown["generation"]) == ("succeeded", [1], 2)
    assert (await retry(world, job["id"], "?generation=2")).status_code == 202


async def test_a_generation_that_was_passed_says_so_before_anything_else(world: World) -> None:
    job = await a_dead_job(world)
    await retry(world, job["id"])
    assert (await retry(world, job["id"], "?generation=2")).json()["code"] == "not_terminal"
    assert (await retry(world, job["id"], "?generation=1")).json()["code"] == "other_generation"
    assert (await retry(world, UNKNOWN, "?generation=1")).json()["code"] == "not_found"


@pytest.mark.parametrize("said", ["0", "-1", "1.5", "x", "", str(2**31), "9" * 400])
async def test_a_generation_that_makes_no_sense_is_422(world: World, said: str) -> None:
    job = await a_dead_job(world)
    answer = await retry(world, job["id"], f"?generation={said}")
    named = [error["parameter"] for error in answer.json()["errors"]]
    assert (answer.status_code, named) == (422, ["generation"])
    assert (await world.stored(job["id"])).generation == 1


async def test_another_query_is_refused_and_another_method_is_told_the_right_one(
    world: World,
) -> None:
    job = await a_dead_job(world)
    answer = await world.client.post(f"/v1/jobs/{job['id']}/retry?delay=3")
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "delay")
    answer = await world.client.get(f"/v1/jobs/{job['id']}/retry")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
