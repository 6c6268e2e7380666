"""`POST /v1/jobs/{id}/cancel`."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, JobState
from ingress.problems import Problem
from ingress.views import JobView
from tests.ingress_by_hand import World

UNKNOWN = "job_" + "0" * 32


async def cancel(world: World, job_id: str, query: str = "") -> Any:
    return await world.client.post(f"/v1/jobs/{job_id}/cancel{query}")


async def test_a_waiting_job_is_over_at_once(world: World) -> None:
    job = await world.submit()
    answer = await cancel(world, job["id"])
    shown = JobView.model_validate_json(answer.content)
    assert answer.status_code == 200
    assert "Retry-After" not in answer.headers
    assert shown.error is not None
    assert (shown.state, shown.done, shown.error.code) == ("canceled", True, "canceled")
    assert (await world.client.get(f"/v1/jobs/{job['id']}")).json() == answer.json()
    assert (await world.client.get(f"/v1/jobs/{job['id']}/result")).status_code == 409


async def test_a_running_job_is_stopped_by_its_worker(world: World) -> None:
    job = await world.submit()
    await world.claim(job["id"])
    answer = await cancel(world, job["id"])
    shown = JobView.model_validate_json(answer.content)
    assert (answer.status_code, shown.state, shown.done) == (202, "canceling", False)
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert await world.store.asked_to_stop([job["id"]]) == {job["id"]}
    again = await cancel(world, job["id"])
    assert (again.status_code, again.json()) == (202, answer.json())


@pytest.mark.parametrize(
    ("event", "changes", "state"),
    [
        (Event.SUCCEEDED, {"result": "[1]"}, JobState.SUCCEEDED),
        (Event.FAILED, {"error": JobError(ErrorCode.PROVIDER_ERROR, "No.")}, JobState.FAILED),
    ],
    ids=["succeeded", "failed"],
)
async def test_a_job_that_is_done_stays_as_it_ended(
    world: World, event: Event, changes: dict[str, Any], state: JobState
) -> None:
    job = await world.submit()
    await world.finish(job["id"], event, **changes)
    answer = await cancel(world, job["id"])
    assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert answer.json()["result"] == ([1] if state is JobState.SUCCEEDED else None)


async def test_a_repeat_is_answered_the_same(world: World) -> None:
    job = await world.submit()
    first, again = await cancel(world, job["id"]), await cancel(world, job["id"])
    assert (first.status_code, first.json()) == (again.status_code, again.json())


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
async def test_no_such_job_is_404(world: World, job_id: str) -> None:
    answer = await cancel(world, job_id)
    assert answer.status_code == 404
    assert Problem.model_validate_json(answer.content).code == "not_found"


async def test_while_the_store_is_away_nothing_is_promised(world: World) -> None:
    job = await world.submit()
    world.store.away = True
    answer = await cancel(world, job["id"])
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_query_is_refused(world: World) -> None:
    job = await world.submit()
    assert (await cancel(world, job["id"], "?force=1")).status_code == 422
    assert (await world.stored(job["id"])).state is JobState.QUEUED
