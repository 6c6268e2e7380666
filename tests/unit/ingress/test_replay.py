"""`POST /v1/jobs/replay`: what a filter names runs again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, JobKind, JobState, Lane
from ingress.batch_views import BatchView
from ingress.routes.replay import ReplayPreview
from tests.ingress_by_hand import JSON, World, until

BROKE = JobError(ErrorCode.PROVIDER_ERROR, "It broke.")


async def replay(world: World, *, key: str = "", **asked: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await world.client.post("/v1/jobs/replay", json=asked, headers=headers)


async def failed(world: World, n: int, **more: Any) -> list[str]:
    ids = []
    for number in range(n):
        body = {"kind": "search", "input": {"query": f"dam {number}"}, **more}
        job = (await world.client.post("/v1/jobs", json=body)).json()
        await world.finish(job["id"], Event.FAILED, error=BROKE)
        ids.append(job["id"])
    return ids


async def states(world: World, ids: list[str]) -> list[JobState]:
    return [(await world.stored(id_)).state for id_ in ids]


async def test_a_dry_run_says_which_and_changes_nothing(world: World) -> None:
    ids = await failed(world, 3)
    answer = await replay(world, dry_run=True, limit=2)
    assert answer.status_code == 200
    preview = ReplayPreview.model_validate_json(answer.content)
    assert (preview.matched, preview.has_more) == (2, True)
    assert preview.job_ids == tuple(ids[:2])
    assert await states(world, ids) == [JobState.FAILED] * 3


async def test_what_the_filter_names_runs_again_and_nothing_else(world: World) -> None:
    ids = await failed(world, 2, tags=["mine"])
    others = await failed(world, 1)
    done = await world.submit()
    await world.finish(done["id"], Event.SUCCEEDED, result="{}")
    answer = await replay(world, tag=["mine"], metadata={"why": "outage"})
    batch = BatchView.model_validate_json(answer.content)
    assert answer.status_code == 202
    assert answer.headers["Location"] == batch.links.self
    assert (batch.total, batch.counts, batch.done) == (2, {JobState.QUEUED: 2}, False)
    assert batch.metadata == {"why": "outage"}
    assert await states(world, [*ids, *others, done["id"]]) == [
        *[JobState.QUEUED] * 2,
        JobState.FAILED,
        JobState.SUCCEEDED,
    ]
    assert [(await world.stored(id_)).generation for id_ in ids] == [2, 2]
    # Two of the four submissions' own messages belong to a generation that is over.
    await until(lambda: world.broker.waiting(JobKind.SEARCH, Lane.DEFAULT) == 6)


async def test_a_replay_can_be_followed_like_a_batch(world: World) -> None:
    ids = await failed(world, 2)
    batch = (await replay(world)).json()
    await world.finish(ids[0], Event.SUCCEEDED, result='{"n":1}')
    seen = (await world.client.get(batch["links"]["self"])).json()
    assert seen["counts"] == {"queued": 1, "succeeded": 1}
    lines = (await world.client.get(batch["links"]["results"])).text.splitlines()
    assert len(lines) == 2


async def test_a_repeat_under_its_key_runs_nothing_again(world: World) -> None:
    ids = await failed(world, 1)
    first = await replay(world, key="once")
    await world.finish(ids[0], Event.FAILED, error=BROKE)
    again = await replay(world, key="once")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    said = [answer.headers.get("Idempotent-Replayed") for answer in (first, again)]
    assert said == [None, "true"]
    assert await states(world, ids) == [JobState.FAILED]
    other = await replay(world, key="once", limit=5)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_repeat_may_say_the_same_in_another_order(world: World) -> None:
    headers = JSON | {"Idempotency-Key": "once"}
    ids = [
        (await world.client.post("/v1/jobs/replay", content=body, headers=headers)).json()["id"]
        for body in (b'{"limit":5,"kind":["llm"]}', b'{ "kind": ["llm"],\n "limit": 5 }')
    ]
    assert ids[0] == ids[1]


async def test_a_repeat_completes_what_was_left_half_done(world: World) -> None:
    ids = await failed(world, 2)
    world.store.lost_retries = 1
    answer = await replay(world, key="half")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    later = await failed(world, 1)
    answer = await replay(world, key="half")
    assert (answer.status_code, answer.json()["total"]) == (202, 2)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert await states(world, [*ids, *later]) == [JobState.QUEUED] * 2 + [JobState.FAILED]


async def test_nothing_to_run_again_is_no_error(world: World) -> None:
    answer = await replay(world)
    assert (answer.status_code, answer.json()["total"], answer.json()["done"]) == (202, 0, True)


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"state": ["queued"]}, "/state/0"),
        ({"state": []}, "/state"),
        ({"limit": 0}, "/limit"),
        ({"limit": 10_001}, "/limit"),
        ({"error_code": ["no such"]}, "/error_code/0"),
        ({"created_after": "yesterday"}, "/created_after"),
        ({"dryrun": True}, "/dryrun"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_place(
    world: World, asked: dict[str, Any], pointer: str
) -> None:
    answer = await replay(world, **asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
