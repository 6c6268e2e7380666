"""Back-pressure: what would wait too long for its turn is refused before it is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import structlog

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, JobKind, Lane
from forebay.pace import Pace
from forebay.store.paces import MemoryPaceStore
from ingress.problems import RequestRefused
from ingress.room import HOLDS_S, Room
from tests.ingress_by_hand import SEARCH, World, ingress

MAX_AGE_S = 100.0
BROKE = JobError(ErrorCode.PROVIDER_ERROR, "It broke.")
SCHEDULED = {"kind": "search", "input": SEARCH}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress(max_backlog_age_s=MAX_AGE_S) as opened:
        yield opened


async def told(world: World, **more: Any) -> None:
    """The census says so of the searches of the default lane, twice: the first may be old."""
    pace = {"waiting": 0, "oldest_s": 0.0, "per_s": 1.0} | more
    for _ in range(2):
        await world.paces.tell([Pace(JobKind.SEARCH, Lane.DEFAULT, **pace)])
        await world.services.room.look()


async def test_a_submission_that_would_wait_too_long_is_503_and_says_when_there_is_room(
    world: World,
) -> None:
    await told(world, waiting=119, per_s=1.0)
    waits = set()
    for _ in range(30):
        answer = await world.client.post("/v1/search", json=SEARCH)
        said = answer.json()
        assert (answer.status_code, said["code"], said["retryable"]) == (503, "overloaded", True)
        assert "nothing was accepted" in said["detail"]
        assert int(answer.headers["Retry-After"]) == said["retry_after_s"]
        waits.add(said["retry_after_s"])
    assert min(waits) >= 20, "119 wait and 100 may: there is room for one more after 20 s"
    assert max(waits) <= MAX_AGE_S
    assert len(waits) > 1, "jitter: all who are refused would come back together"
    assert (await world.client.get("/v1/jobs")).json()["data"] == []


async def test_what_came_in_since_the_census_counts(world: World) -> None:
    await told(world, waiting=98)
    answers = [await world.client.post("/v1/search", json=SEARCH) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 503, 503]
    await told(world, waiting=99)
    answers = [await world.client.post("/v1/search", json=SEARCH) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 503]


async def test_other_kinds_and_lanes_are_let_in(world: World) -> None:
    await told(world, waiting=1000)
    urgent = {"kind": "search", "input": SEARCH, "lane": "interactive"}
    assert (await world.client.post("/v1/jobs", json=urgent)).status_code == 202
    await world.submit("crawl", {"url": "https://example.com/"})
    assert (await world.client.post("/v1/search", json=SEARCH)).status_code == 503


async def test_a_known_key_is_answered_also_when_it_is_full(world: World) -> None:
    first = await world.submit(**{"Idempotency-Key": "mine"})
    await told(world, waiting=1000)
    again = await world.client.post("/v1/search", json=SEARCH, headers={"Idempotency-Key": "mine"})
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    new = await world.client.post("/v1/search", json=SEARCH, headers={"Idempotency-Key": "new"})
    assert new.status_code == 503


async def test_retries_that_are_refused_take_no_room_from_others(world: World) -> None:
    [job_id] = await ended(world, 1)
    await told(world, waiting=98)
    for _ in range(5):
        refused = await world.client.post(f"/v1/jobs/{job_id}/retry?generation=7")
        assert (refused.status_code, refused.json()["code"]) == (409, "other_generation")
    answers = [await world.client.post("/v1/search", json=SEARCH) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 503]


async def test_repeats_of_one_job_take_no_room_from_others(world: World) -> None:
    await told(world, waiting=98)
    first = await world.submit(**{"Idempotency-Key": "mine"})
    for _ in range(5):
        again = await world.submit(**{"Idempotency-Key": "mine"})
        assert again["id"] == first["id"]
    answers = [await world.client.post("/v1/search", json=SEARCH) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 503]


async def test_without_a_rate_the_age_of_the_oldest_decides(world: World) -> None:
    await told(world, waiting=100_000, per_s=None, oldest_s=MAX_AGE_S - 1)
    assert (await world.client.post("/v1/search", json=SEARCH)).status_code == 202
    await told(world, waiting=3, per_s=None, oldest_s=MAX_AGE_S + 1)
    refused = await world.client.post("/v1/search", json=SEARCH)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 30


async def test_who_comes_for_later_does_not_meet_those_who_wait_now(world: World) -> None:
    await told(world, waiting=1000)
    for after_s, status in ((MAX_AGE_S - 1, 503), (MAX_AGE_S + 1, 202)):
        start = (world.clock.now + timedelta(seconds=after_s)).isoformat()
        answer = await world.client.post("/v1/jobs", json={**SCHEDULED, "not_before": start})
        assert answer.status_code == status


async def test_a_batch_takes_no_more_than_the_room_there_is(world: World) -> None:
    await told(world, waiting=90)
    many = {"jobs": [{"kind": "search", "input": {"query": f"dam {n}"}} for n in range(11)]}
    refused = await world.client.post("/v1/batches", json=many)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert "Of 11 jobs 10 would fit now." in refused.json()["detail"]
    assert (await world.client.get("/v1/jobs")).json()["data"] == []
    fewer = {"jobs": many["jobs"][:10]}
    key = {"Idempotency-Key": "batch"}
    accepted = await world.client.post("/v1/batches", json=fewer, headers=key)
    assert accepted.status_code == 202
    assert (await world.client.post("/v1/search", json=SEARCH)).status_code == 503
    again = await world.client.post("/v1/batches", json=fewer, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, accepted.json()["id"])


async def ended(world: World, count: int) -> list[str]:
    ids = [(await world.submit())["id"] for _ in range(count)]
    for job_id in ids:
        await world.finish(job_id, Event.FAILED, error=BROKE)
    return ids


async def test_a_retry_by_hand_needs_room_too(world: World) -> None:
    [failed, other] = await ended(world, 2)
    await told(world, waiting=99)
    assert (await world.client.post(f"/v1/jobs/{failed}/retry")).status_code == 202
    refused = await world.client.post(f"/v1/jobs/{other}/retry")
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    # What is wrong for another reason says that one.
    assert (await world.client.post(f"/v1/jobs/{failed}/retry")).status_code == 409
    assert (await world.client.post(f"/v1/jobs/job_{'0' * 32}/retry")).status_code == 404


async def test_a_replay_and_the_retry_of_a_batch_take_all_or_nothing(world: World) -> None:
    await ended(world, 3)
    await told(world, waiting=98)
    refused = await world.client.post("/v1/jobs/replay", json={})
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    states = {job["state"] for job in (await world.client.get("/v1/jobs")).json()["data"]}
    assert states == {"failed"}
    key = {"Idempotency-Key": "again"}
    replayed = await world.client.post("/v1/jobs/replay", json={"limit": 2}, headers=key)
    assert replayed.status_code == 202
    path = replayed.headers["Location"]
    [job, _] = await _queued(world)
    await world.finish(job, Event.FAILED, error=BROKE)
    assert (await world.client.post(f"{path}/retry")).status_code == 503
    await told(world, waiting=98)
    assert (await world.client.post(f"{path}/retry")).status_code == 202
    assert len(await _queued(world)) == 2
    again = await world.client.post("/v1/jobs/replay", json={"limit": 2}, headers=key)
    assert again.headers["Location"] == path


async def _queued(world: World) -> list[str]:
    answer = await world.client.get("/v1/jobs?state=queued")
    return [job["id"] for job in answer.json()["data"]]


async def test_with_a_bound_of_0_everything_is_accepted() -> None:
    async with ingress(max_backlog_age_s=0) as world:
        await told(world, waiting=10**9)
        assert (await world.client.post("/v1/search", json=SEARCH)).status_code == 202


LOGGER: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
FULL = Pace(JobKind.SEARCH, Lane.DEFAULT, waiting=1000, oldest_s=0, per_s=1.0)


async def test_what_the_census_said_before_this_process_began_is_not_believed() -> None:
    paces = MemoryPaceStore()
    room = Room(paces, MAX_AGE_S, LOGGER)
    await paces.tell([FULL])
    await room.look()
    room.enter({FULL.route: 1})
    await paces.tell([FULL])
    await room.look()
    with pytest.raises(RequestRefused):
        room.enter({FULL.route: 1})


async def test_a_census_holds_for_a_minute_only() -> None:
    paces, now = MemoryPaceStore(), [1000.0]
    room = Room(paces, MAX_AGE_S, LOGGER, lambda: now[0])
    for _ in range(2):
        await paces.tell([FULL])
        await room.look()
    now[0] += HOLDS_S - 1
    with pytest.raises(RequestRefused):
        room.enter({FULL.route: 1})
    now[0] += 2
    room.enter({FULL.route: 1})
