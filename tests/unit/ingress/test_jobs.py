from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event
from ingress.problems import PROBLEMS, Problem
from ingress.views import JobList, JobView
from tests.ingress_by_hand import SEARCH, World, ingress

UNKNOWN = "job_" + "0" * 32


async def test_a_finished_job_shows_its_result_usage_and_provider(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result='{"results":[1]}')
    answer = await world.client.get(f"/v1/jobs/{job['id']}")
    shown = answer.json()
    JobView.model_validate_json(answer.content)
    assert (shown["state"], shown["done"], shown["wait"]) == ("succeeded", True, None)
    assert (shown["result"], shown["error"]) == ({"results": [1]}, None)
    assert (shown["provider"], shown["attempts"]) == ("searxng", 1)
    assert shown["finished_at"] is not None
    assert shown["expires_at"] is not None
    assert "Retry-After" not in answer.headers


async def test_attempts_are_shown_when_asked_for(world: World) -> None:
    job = await world.submit()
    error = JobError(ErrorCode.PROVIDER_ERROR, "It answered 500.", True, 3.0)
    await world.finish(job["id"], Event.RETRY_LATER, error=error, wait_s=90)
    plain = (await world.client.get(f"/v1/jobs/{job['id']}")).json()
    answer = await world.client.get(f"/v1/jobs/{job['id']}?include=attempts")
    JobView.model_validate_json(answer.content)
    assert "history" not in plain
    attempt = answer.json()["history"][0]
    assert (attempt["n"], attempt["provider"], attempt["http_status"]) == (1, "searxng", 200)
    assert (attempt["error"]["code"], attempt["retry_after_s"]) == ("provider_error", 3.0)
    assert (plain["state"], plain["wait"]) == ("retrying", {"reason": "backoff"})
    assert answer.headers["Retry-After"] == "90"


@pytest.mark.parametrize("path", ["", "/result"])
@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense", "job_%00", "%24ne", "job_" + "G" * 32])
async def test_an_unknown_job_is_404(world: World, job_id: str, path: str) -> None:
    answer = await world.client.get(f"/v1/jobs/{job_id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    Problem.model_validate_json(answer.content)


async def test_an_open_job_has_an_etag_that_changes_with_it(world: World) -> None:
    job = await world.submit()
    path = f"/v1/jobs/{job['id']}"
    etag = (await world.client.get(path)).headers["ETag"]
    same = await world.client.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert same.headers["Retry-After"] == "1"
    await world.claim(job["id"])
    changed = await world.client.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["state"]) == (200, "running")


async def test_the_result_is_given_byte_for_byte(world: World) -> None:
    job = await world.submit()
    text = '{ "a" : 1.0, "a": 2, "n": 1e400, "u": "\\u0041é" }'
    await world.finish(job["id"], Event.SUCCEEDED, result=text)
    answer = await world.client.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["Content-Type"] == "application/json"
    assert text in (await world.client.get(f"/v1/jobs/{job['id']}")).text


async def test_a_result_too_large_to_be_inline_is_given_too(world: World) -> None:
    job = await world.submit()
    text = json.dumps({"text": "x" * 400_000})
    await world.finish(job["id"], Event.SUCCEEDED, result=text)
    assert (await world.client.get(f"/v1/jobs/{job['id']}/result")).text == text
    assert (await world.client.get(f"/v1/jobs/{job['id']}")).json()["result"] == json.loads(text)


async def test_the_result_of_an_open_job_is_202_with_the_job(world: World) -> None:
    job = await world.submit()
    answer = await world.client.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert answer.json() == job


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_the_result_of_a_failed_job_is_its_problem(world: World, code: ErrorCode) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.FAILED, error=JobError(code, "Why.", retry_after_s=2))
    answer = await world.client.get(f"/v1/jobs/{job['id']}/result")
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.code) == (PROBLEMS[code].status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem.instance == f"/v1/jobs/{job['id']}"
    assert (await world.client.get(f"/v1/jobs/{job['id']}")).json()["error"] == answer.json()


async def test_waiting_returns_when_the_job_is_done(world: World) -> None:
    job = await world.submit()
    waiting = asyncio.create_task(world.client.get(f"/v1/jobs/{job['id']}?wait=30"))
    await world.store.asked_finished.wait()
    assert not waiting.done()
    await world.finish(job["id"], Event.SUCCEEDED, result="[]")
    assert (await waiting).json()["state"] == "succeeded"


async def test_waiting_returns_the_open_job_when_the_time_is_over(world: World) -> None:
    job = await world.submit()
    answer = await world.client.get(f"/v1/jobs/{job['id']}?wait=0.001")
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert world.services.waiting.waiting == 0


async def test_waiting_for_a_done_job_asks_nobody(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result="[]")
    assert (await world.client.get(f"/v1/jobs/{job['id']}?wait=60")).json()["done"]
    assert world.store.finished_queries == []


async def test_a_hundred_who_wait_cost_one_query_a_tick(world: World) -> None:
    jobs = [await world.submit() for _ in range(100)]
    waiting = [
        asyncio.create_task(world.client.get(f"/v1/jobs/{job['id']}?wait=30")) for job in jobs
    ]
    await world.store.asked_finished.wait()
    for job in jobs:
        await world.finish(job["id"], Event.SUCCEEDED, result="[]")
    answers = await asyncio.gather(*waiting)
    assert all(answer.json()["done"] for answer in answers)
    assert max(world.store.finished_queries) == 100
    assert len(world.store.finished_queries) < 20


async def test_a_stop_lets_the_waiting_go_with_what_is_known(world: World) -> None:
    job = await world.submit()
    waiting = asyncio.create_task(world.client.get(f"/v1/jobs/{job['id']}?wait=60"))
    await world.store.asked_finished.wait()
    world.services.waiting.release()
    assert (await waiting).json()["state"] == "queued"
    later = await world.client.get(f"/v1/jobs/{job['id']}?wait=60")
    assert later.json()["state"] == "queued"


@pytest.mark.parametrize("query", ["wait=-1", "wait=soon", "wait=nan", "include=all"])
async def test_a_query_that_is_not_valid_is_422(world: World, query: str) -> None:
    job = await world.submit()
    answer = await world.client.get(f"/v1/jobs/{job['id']}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_a_wait_ends_at_the_services_limit() -> None:
    async with asyncio.timeout(30), ingress(max_wait_s=0.01) as world:
        job = await world.submit()
        answer = await world.client.get(f"/v1/jobs/{job['id']}?wait=3600")
        assert (answer.status_code, answer.json()["done"]) == (200, False)


async def test_pages_follow_each_other_newest_first_without_gap_or_repeat(world: World) -> None:
    ids = [(await world.submit())["id"] for _ in range(7)]
    seen: list[str] = []
    path: str | None = "/v1/jobs?limit=3&kind=search"
    while path is not None:
        answer = await world.client.get(path)
        page = answer.json()
        JobList.model_validate_json(answer.content)
        seen += [job["id"] for job in page["data"]]
        link = answer.headers.get("Link")
        assert page["has_more"] == (link is not None) == (page["next_cursor"] is not None)
        path = link.partition(">")[0].removeprefix("<") if link else None
        assert link is None or link.endswith('>; rel="next"')
    assert seen == ids[::-1]


async def test_a_list_has_no_results(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result='"secret"')
    assert "result" not in (await world.client.get("/v1/jobs")).json()["data"][0]


async def test_lists_are_filtered_by_state_and_kind(world: World) -> None:
    search = await world.submit()
    crawl = await world.submit("crawl", {"url": "https://example.com/"})
    await world.finish(search["id"], Event.SUCCEEDED, result="[]")

    async def listed(query: str) -> set[str]:
        page = (await world.client.get(f"/v1/jobs?{query}")).json()
        return {job["id"] for job in page["data"]}

    assert await listed("state=queued") == {crawl["id"]}
    assert await listed("state=succeeded&kind=crawl") == set()
    both = {search["id"], crawl["id"]}
    assert await listed("state=succeeded,queued") == both
    assert await listed("state=succeeded&state=queued&kind=crawl,search") == both


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("state=gone", "state"),
        ("kind=mail", "kind"),
        ("limit=0", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=oldest&order=oldest", "order"),
        ("state=queued&cursor=a&cursor=b", "cursor"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("color=a", "color"),
        ("tag=", "tag"),
        ("provider=No Name", "provider"),
        ("error_code=bad", "error_code"),
        ("created_after=yesterday", "created_after"),
        ("order=best", "order"),
        ("cursor=nonsense", "cursor"),
        ("cursor=MTpqb2JfJG5l", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        (f"cursor={'A' * 201}", "cursor"),
    ],
)
async def test_a_list_query_that_is_not_valid_is_422(
    world: World, query: str, parameter: str
) -> None:
    answer = await world.client.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


async def test_a_job_of_another_tenant_is_not_there(world: World) -> None:
    job = await world.submit()
    other = (await world.stored(job["id"])).evolve(id="job_" + "1" * 32, tenant="other")
    await world.store.insert([other])
    for path in ("", "/result"):
        theirs = await world.client.get(f"/v1/jobs/{other.id}{path}")
        nobodys = await world.client.get(f"/v1/jobs/{UNKNOWN}{path}")
        ignored = {"instance", "request_id"}
        assert {k: v for k, v in theirs.json().items() if k not in ignored} == {
            k: v for k, v in nobodys.json().items() if k not in ignored
        }
    assert [j["id"] for j in (await world.client.get("/v1/jobs")).json()["data"]] == [job["id"]]


async def test_submitting_says_the_query_of_the_example(world: World) -> None:
    examples = JobView.model_config["json_schema_extra"]
    assert isinstance(examples, dict)
    job = await world.submit(body=SEARCH)
    assert job.keys() == examples["examples"][0].keys()  # type: ignore[index,union-attr]


async def test_jobs_whose_attempts_ran_out_are_listed_with_their_attempts(world: World) -> None:
    dead, failed = await world.submit(), await world.submit()
    error = JobError(ErrorCode.ATTEMPTS_EXHAUSTED, "No attempt of 5 succeeded.")
    await world.finish(dead["id"], Event.FAILED, error=error, dead_lettered=True)
    await world.finish(failed["id"], Event.FAILED, error=error)

    async def listed(query: str) -> list[Any]:
        answer = await world.client.get(f"/v1/jobs?{query}")
        return list(JobList.model_validate_json(answer.content).data)

    assert [job.id for job in await listed("dead_lettered=true")] == [dead["id"]]
    assert [job.id for job in await listed("dead_lettered=false")] == [failed["id"]]
    assert [job.history for job in await listed("state=failed")] == [None, None]
    (shown,) = await listed("dead_lettered=true&include=attempts")
    assert [attempt.error.code for attempt in shown.history] == ["attempts_exhausted"]


@pytest.mark.parametrize("wanted", ["true", "false"])
async def test_the_next_page_has_the_same_filter(world: World, wanted: str) -> None:
    error = JobError(ErrorCode.ATTEMPTS_EXHAUSTED, "No attempt of 5 succeeded.")
    for _ in range(2):
        job = await world.submit()
        dead = wanted == "true"
        await world.finish(job["id"], Event.FAILED, error=error, dead_lettered=dead)
    answer = await world.client.get(f"/v1/jobs?dead_lettered={wanted}&limit=1")
    path = answer.headers["Link"].partition(">")[0].removeprefix("<")
    assert f"dead_lettered={wanted}" in path
    assert len((await world.client.get(path)).json()["data"]) == 1
