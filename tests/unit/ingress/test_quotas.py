"""What a key may ask for: requests in a window over all replicas, and open jobs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from forebay.client import Client, Invalid, SearchRequest
from forebay.errors import StoreUnavailable
from forebay.jobs import Event
from forebay.keys import ApiKey, Grant, Quota, Role, Window, issue
from forebay.store.keys import MemoryKeyStore
from ingress.open_jobs import BELIEVED_S, OpenJobs
from ingress.problems import RequestRefused
from ingress.request_quota import RequestQuota
from ingress.settings import Authentication
from tests.contract.store.jobs import a_job
from tests.ingress_by_hand import SEARCH, World, ingress
from tests.keys_by_hand import give

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIELD = re.compile(r'"key";r=(\d+);t=(\d+)')


class CountingStore(MemoryKeyStore):
    def __init__(self) -> None:
        super().__init__(lambda: NOON)
        self.asked = 0
        self.away = False

    async def reserve(self, window: Window, asked: int) -> Grant:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable
        return await super().reserve(window, asked)


class Replicas:
    """So many processes on one store, with one clock."""

    def __init__(self, count: int) -> None:
        self.now = NOON
        self.store = CountingStore()
        self.all = [RequestQuota(self.store, lambda: self.now) for _ in range(count)]

    async def granted(self, key: ApiKey, requests: int) -> int:
        """Of so many requests, sent to all in turn and at once."""
        turns = (self.all[n % len(self.all)].take(key) for n in range(requests))
        allowances = await asyncio.gather(*turns)
        return sum(allowance is not None and allowance.granted for allowance in allowances)


def a_key(**quota: int) -> ApiKey:
    return issue("acme", "a test", Role.USER, NOON, quota=Quota(**quota))[0]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("quota", [1, 7, 600])
async def test_a_window_lets_in_its_quota_over_all_replicas(count: int, quota: int) -> None:
    replicas, key = Replicas(count), a_key(requests=quota)
    assert await replicas.granted(key, 3 * quota + 10) == quota
    assert await replicas.granted(key, 20) == 0
    replicas.now += timedelta(seconds=60)
    assert await replicas.granted(key, 3 * quota + 10) == quota


async def test_the_store_is_asked_for_few_of_many_requests() -> None:
    replicas, key = Replicas(1), a_key(requests=10_000)
    for _ in range(5_000):
        allowance = await replicas.all[0].take(key)
        assert allowance is not None
        assert allowance.granted
    assert replicas.store.asked < 30


async def test_a_replica_that_is_asked_little_holds_little() -> None:
    replicas, key = Replicas(2), a_key(requests=600)
    idle, busy = replicas.all
    for _ in range(3):
        await idle.take(key)
    allowances = [await busy.take(key) for _ in range(700)]
    assert sum(one is not None and one.granted for one in allowances) >= 600 - 3 - 4


async def test_who_used_up_a_window_is_refused_without_the_store() -> None:
    replicas, key = Replicas(1), a_key(requests=3)
    await replicas.granted(key, 10)
    asked = replicas.store.asked
    assert await replicas.granted(key, 100) == 0
    assert replicas.store.asked == asked


async def test_nothing_is_granted_that_the_store_did_not_grant() -> None:
    replicas, key = Replicas(1), a_key(requests=100)
    replicas.store.away = True
    with pytest.raises(StoreUnavailable):
        await replicas.all[0].take(key)
    replicas.store.away = False
    assert await replicas.granted(key, 200) == 100


async def test_a_key_without_a_quota_is_not_counted() -> None:
    replicas = Replicas(1)
    assert await replicas.all[0].take(a_key()) is None
    assert replicas.store.asked == 0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress(authentication=Authentication.KEYS) as opened:
        yield opened


async def test_every_answer_says_what_is_left(world: World) -> None:
    caller = await give(world, Role.READ_ONLY, quota=Quota(requests=4, window_s=3600))
    paths = ("/v1/jobs", "/v1/jobs/job_" + "0" * 32, "/v1/jobs?limit=0")
    answers = [await world.client.get(path, headers=caller.headers) for path in paths]
    answers.append(await world.client.post("/v1/search", json=SEARCH, headers=caller.headers))
    answers.append(await world.client.get("/v1/jobs", headers=caller.headers))
    assert [answer.status_code for answer in answers] == [200, 404, 422, 403, 429]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"key";q=4;w=3600'}
    found = [FIELD.fullmatch(answer.headers["RateLimit"]) for answer in answers]
    assert [one and one[1] for one in found] == ["3", "2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    left_s = found[-1] and found[-1][2]
    assert refused.headers["Retry-After"] == left_s
    world.clock.move(float(left_s or 0))
    assert (await world.client.get("/v1/jobs", headers=caller.headers)).status_code == 200


async def test_without_a_quota_nothing_is_said_of_one(world: World) -> None:
    caller = await give(world)
    answer = await world.client.get("/v1/jobs", headers=caller.headers)
    assert "RateLimit" not in answer.headers


async def test_a_key_has_as_many_open_jobs_as_it_may(world: World) -> None:
    caller = await give(world, quota=Quota(open_jobs=3))
    other = await give(world)
    body = {"jobs": [{"kind": "search", "input": SEARCH}] * 2}
    accepted = await world.client.post("/v1/batches", json=body, headers=caller.headers)
    assert accepted.status_code == 202
    refused = await world.client.post("/v1/batches", json=body, headers=caller.headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 5
    await world.submit(**caller.headers)
    answers = [
        await world.client.post("/v1/search", json=SEARCH, headers=one.headers)
        for one in (caller, other)
    ]
    assert [answer.status_code for answer in answers] == [429, 202]
    assert await world.store.count_open(caller.key.id, 10) == 3


async def test_of_a_batch_that_never_fits_it_is_said_so(world: World) -> None:
    caller = await give(world, quota=Quota(open_jobs=3))
    never, fits, later = [
        await world.client.post(
            "/v1/batches",
            json={"jobs": [{"kind": "search", "input": SEARCH}] * jobs},
            headers=caller.headers,
        )
        for jobs in (4, 3, 3)
    ]
    assert (never.status_code, fits.status_code, later.status_code) == (422, 202, 429)
    assert (never.json()["code"], never.json()["retryable"]) == ("validation_error", False)
    assert "Retry-After" not in never.headers
    (part,) = never.json()["errors"]
    assert part["pointer"] == ""
    assert "never fit" in part["detail"]
    assert "Wait for the end of some" in later.json()["detail"]


async def test_the_client_sends_a_batch_that_never_fits_once(world: World) -> None:
    caller = await give(world, quota=Quota(open_jobs=3))
    sent: list[str] = []

    async def seen(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append(scope["path"])
        await world.app(scope, receive, send)

    transport = httpx.ASGITransport(seen)
    key = caller.headers["Authorization"].removeprefix("Bearer ")
    async with Client("http://127.0.0.1", key, transport=transport) as client:
        with pytest.raises(Invalid, match="never fit; send fewer at once"):
            await client.submit_batch([SearchRequest(query="weir")] * 4)
    assert sent == ["/v1/batches"]


class CountedJobs:
    """One replica's quota of open jobs on a store of jobs; time is moved by hand."""

    def __init__(self, world: World) -> None:
        self.now = 0.0
        self.world = world
        self.open_jobs = OpenJobs(world.store, clock=lambda: self.now)

    async def accept(self, key: ApiKey, jobs: int = 1) -> bool:
        try:
            async with self.open_jobs.room(key, jobs):
                await asyncio.sleep(0)
                await self.world.store.insert([a_job(key_id=key.id) for _ in range(jobs)])
        except RequestRefused:
            return False
        return True


async def test_a_crowd_at_once_gets_no_more_than_the_quota(world: World) -> None:
    jobs, key = CountedJobs(world), a_key(open_jobs=10)
    for _ in range(3):
        taken = await asyncio.gather(*(jobs.accept(key) for _ in range(30)))
        jobs.now += BELIEVED_S
    assert sum(taken) == 0
    assert await world.store.count_open(key.id, 100) == 10


async def test_room_comes_back_when_jobs_end(world: World) -> None:
    jobs, key = CountedJobs(world), a_key(open_jobs=2)
    assert await jobs.accept(key, 2)
    assert not await jobs.accept(key)
    job_id = next(job.id for job in world.store._jobs.values() if job.key_id == key.id)
    await world.finish(job_id, Event.SUCCEEDED, result="{}")
    jobs.now += BELIEVED_S
    assert await jobs.accept(key)
    jobs.now += BELIEVED_S
    assert not await jobs.accept(key)


async def test_a_known_key_is_answered_also_when_the_quota_is_used_up(world: World) -> None:
    caller = await give(world, quota=Quota(open_jobs=3))
    colleague = await give(world, quota=Quota(open_jobs=1))
    body = {"jobs": [{"kind": "search", "input": SEARCH}] * 2}

    async def answers(headers: dict[str, str]) -> list[httpx.Response]:
        return [
            await world.client.post(
                path, json=said, headers=headers | {"Idempotency-Key": f"mine{path}"}
            )
            for path, said in (("/v1/search", SEARCH), ("/v1/batches", body))
        ]

    first = await answers(caller.headers)
    assert [answer.status_code for answer in first] == [202, 202]
    other = await world.client.post("/v1/search", json=SEARCH, headers=colleague.headers)
    assert other.status_code == 202
    for key in (caller, colleague):
        again = await answers(key.headers)
        assert [answer.status_code for answer in again] == [202, 202]
        assert [one.json()["id"] for one in again] == [one.json()["id"] for one in first]
        assert {one.headers["Idempotent-Replayed"] for one in again} == {"true"}
        new = await world.client.post("/v1/search", json=SEARCH, headers=key.headers)
        assert (new.status_code, new.json()["code"]) == (429, "quota_exceeded")
        reused = await world.client.post(
            "/v1/search",
            json={"query": "another"},
            headers=key.headers | {"Idempotency-Key": "mine/v1/search"},
        )
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")


async def test_items_that_are_refused_take_nothing_of_the_quota(world: World) -> None:
    caller = await give(world, quota=Quota(open_jobs=1))
    good, bad = {"kind": "search", "input": SEARCH}, {"kind": "search", "input": {}}
    answer = await world.client.post(
        "/v1/batches",
        json={"jobs": [good, bad, bad], "on_invalid": "skip"},
        headers=caller.headers,
    )
    assert answer.status_code == 202
