"""Callers who wait: for how long they may, what they are told, and how many there may be."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from forebay.jobs import Event
from forebay.keys import Role
from forebay.progress import Moved
from ingress.settings import Authentication
from tests.ingress_by_hand import SEARCH, World, ingress, until
from tests.keys_by_hand import Held, give
from tests.unit.ingress.test_events import following

WAIT = "wait=30"
CONNECTIONS = 10
"""Eight of them for callers who wait."""
PATIENCE_S = 10


def submitting(world: World, **headers: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(world.client.post("/v1/search", json=SEARCH, headers=headers))


async def awaited_job(world: World, **headers: str) -> str:
    """The id of the one job there is, when its caller waits."""
    await until(lambda: world.services.waiting.waiting == 1)
    (job,) = (await world.client.get("/v1/jobs", headers=headers)).json()["data"]
    return str(job["id"])


async def end(world: World, job_id: str) -> None:
    """The job succeeds, and who waits for it is woken."""
    await world.finish(job_id, Event.SUCCEEDED, result="[]")
    world.services.hub.heard([Moved(job_id, done=True)])


async def test_a_submission_that_prefers_to_wait_is_answered_when_its_job_is_done(
    world: World,
) -> None:
    waiting = submitting(world, Prefer=WAIT)
    await end(world, await awaited_job(world))
    answer = await waiting
    assert (answer.status_code, answer.json()["result"]) == (200, [])
    assert answer.headers["Preference-Applied"] == WAIT


async def test_a_submission_that_prefers_nothing_is_answered_at_once(world: World) -> None:
    answer = await submitting(world, Prefer="respond-async, wait=soon")
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


async def test_a_submission_waits_no_longer_than_the_service_lets_anybody_wait() -> None:
    async with ingress(max_wait_s=0.1) as world, asyncio.timeout(PATIENCE_S):
        answer = await submitting(world, Prefer="wait=3600")
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=0.1"
    assert "Retry-After" in answer.headers


async def test_whose_key_is_revoked_while_they_wait_is_not_told_the_result() -> None:
    """What they sent was accepted with a live key, so they get the receipt of that."""
    async with ingress(authentication=Authentication.KEYS) as world:
        user = await give(world, tenant="default")
        admin = await give(world, Role.ADMIN, tenant="default")
        waiting = submitting(world, Prefer=WAIT, **user.headers)
        job_id = await awaited_job(world, **admin.headers)
        await world.client.delete(f"/v1/keys/{user.key.id}", headers=admin.headers)
        await end(world, job_id)
        answer = await waiting
    said = answer.json()
    assert (answer.status_code, said["id"], said["state"]) == (202, job_id, "queued")
    assert said["result"] is None


async def follow(
    world: World, stack: AsyncExitStack, job_id: str, headers: dict[str, str], streams: int
) -> list[int]:
    """The statuses of so many who follow a job."""
    callers = [
        await stack.enter_async_context(following(world, job_id, **headers)) for _ in range(streams)
    ]
    await until(lambda: all(caller.status for caller in callers))
    return [caller.status for caller in callers]


async def test_in_open_mode_callers_may_wait_at_four_fifths_of_all_connections() -> None:
    async with ingress(max_connections=CONNECTIONS) as world:
        job = await world.submit()
        async with AsyncExitStack() as stack:
            assert await follow(world, stack, job["id"], {}, 9) == [200] * 8 + [503]
            assert (await world.client.get("/livez")).status_code == 200
        # Who has left is no longer in the way.
        async with AsyncExitStack() as stack:
            assert await follow(world, stack, job["id"], {}, 8) == [200] * 8


async def test_a_stream_too_many_is_told_when_to_come_again() -> None:
    async with ingress(max_connections=1) as world:
        job = await world.submit()
        answer = await world.client.get(f"{job['links']['self']}/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) == answer.json()["retry_after_s"] >= 1


@pytest.mark.parametrize("max_connections", [1, CONNECTIONS])
async def test_a_wait_too_many_is_answered_at_once_with_the_job_as_it_is(
    max_connections: int,
) -> None:
    async with ingress(max_connections=max_connections) as world, AsyncExitStack() as stack:
        job = await world.submit()
        await follow(world, stack, job["id"], {}, max_connections - 2)
        async with asyncio.timeout(PATIENCE_S):
            looked = await world.client.get(f"/v1/jobs/{job['id']}?wait=60")
            submitted = await submitting(world, Prefer="wait=60")
    assert (looked.status_code, submitted.status_code) == (200, 202)
    assert {answer.json()["state"] for answer in (looked, submitted)} == {"queued"}
    assert all("Retry-After" in answer.headers for answer in (looked, submitted))
    assert "Preference-Applied" not in submitted.headers


async def test_one_tenant_does_not_take_every_place_from_another() -> None:
    async with (
        ingress(authentication=Authentication.KEYS, max_connections=CONNECTIONS) as world,
        AsyncExitStack() as stack,
    ):
        greedy, modest = await give(world, tenant="greedy"), await give(world, tenant="modest")
        again = await give(world, tenant="greedy")

        async def followed(who: Held, streams: int) -> list[int]:
            job = await world.submit(**who.headers)
            return await follow(world, stack, job["id"], who.headers, streams)

        assert await followed(greedy, 5) == [200] * 4 + [503]
        # Another key is no other tenant.
        assert await followed(again, 1) == [503]
        assert await followed(modest, 3) == [200] * 2 + [503]
