"""Making, listing and revoking API keys over the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from forebay.keys import MOST_LIVE_KEYS, Role
from ingress.settings import Authentication
from tests.ingress_by_hand import World, ingress, until
from tests.keys_by_hand import Held, give


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress(authentication=Authentication.KEYS) as opened:
        yield opened


@pytest.fixture
async def admin(world: World) -> Held:
    return await give(world, Role.ADMIN)


async def create(world: World, admin: Held, **body: Any) -> Any:
    return await world.client.post("/v1/keys", json=body, headers=admin.headers)


async def test_a_key_is_made_and_works_at_once(world: World, admin: Held) -> None:
    quota = {"requests": 600, "window_s": 60, "open_jobs": 1000}
    made = await create(world, admin, name=" checkout ", role="user", quota=quota)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    key = made.json()
    assert (key["name"], key["role"], key["quota"]) == ("checkout", "user", quota)
    bearer = {"Authorization": f"Bearer {key['secret']}"}
    job = await world.submit(**bearer)
    assert world.store._jobs[job["id"]].key_id == key["id"]
    assert world.store._jobs[job["id"]].tenant == "acme"

    listed = await world.client.get("/v1/keys", headers=admin.headers)
    assert listed.headers["Cache-Control"] == "no-store"
    assert [one["id"] for one in listed.json()["data"]] == [key["id"], admin.key.id]
    assert "secret" not in listed.text


async def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(
    world: World, admin: Held
) -> None:
    user = await give(world)
    await world.submit(**user.headers)
    for _ in range(2):
        answer = await world.client.delete(f"/v1/keys/{user.key.id}", headers=admin.headers)
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await world.client.get("/v1/jobs", headers=user.headers)).status_code == 401
    keys = (await world.client.get("/v1/keys", headers=admin.headers)).json()["data"]
    assert {key["id"]: key["revoked_at"] is None for key in keys} == {
        user.key.id: False,
        admin.key.id: True,
    }


async def test_several_keys_of_a_tenant_live_at_the_same_time(world: World) -> None:
    old, new = await give(world), await give(world)
    job = await world.submit(**old.headers)
    answer = await world.client.get(f"/v1/jobs/{job['id']}", headers=new.headers)
    assert answer.status_code == 200


async def test_a_key_works_until_it_expires(world: World, admin: Held) -> None:
    ends = (world.clock() + timedelta(minutes=5)).isoformat()
    key = (await create(world, admin, name="x", expires_at=ends)).json()
    bearer = {"Authorization": f"Bearer {key['secret']}"}
    assert (await world.client.get("/v1/jobs", headers=bearer)).status_code == 200
    world.clock.move(300)
    assert (await world.client.get("/v1/jobs", headers=bearer)).status_code == 401


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x", "role": "root"}, "/role"),
        ({"name": "x", "tenant": "other"}, "/tenant"),
        ({"name": "x", "quota": {"requests": 0}}, "/quota/requests"),
        ({"name": "x", "quota": {"requests": True}}, "/quota/requests"),
        ({"name": "x", "quota": {"requests": "5"}}, "/quota/requests"),
        ({"name": "x", "quota": {"requests": 5.5}}, "/quota/requests"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_place(
    world: World, admin: Held, body: dict[str, Any], pointer: str
) -> None:
    answer = await create(world, admin, **body)
    assert answer.status_code == 422
    assert [part["pointer"] for part in answer.json()["errors"]] == [pointer]


async def test_a_whole_number_may_be_written_with_a_point(world: World, admin: Held) -> None:
    made = await create(world, admin, name="x", quota={"requests": 372.0})
    assert made.json()["quota"]["requests"] == 372


async def test_the_live_keys_of_a_tenant_are_bounded(world: World, admin: Held) -> None:
    spare = [await give(world) for _ in range(MOST_LIVE_KEYS - 1)]
    refused = await create(world, admin, name="x")
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")
    await world.client.delete(f"/v1/keys/{spare[0].key.id}", headers=admin.headers)
    assert (await create(world, admin, name="x")).status_code == 201


async def test_who_waits_for_a_job_under_a_revoked_key_hears_nothing_of_it(world: World) -> None:
    admin, user = await give(world, Role.ADMIN), await give(world)
    job = await world.submit(**user.headers)
    path = f"/v1/jobs/{job['id']}?wait=30"
    waiting = asyncio.create_task(world.client.get(path, headers=user.headers))
    await until(lambda: world.services.waiting.waiting == 1)
    await world.client.delete(f"/v1/keys/{user.key.id}", headers=admin.headers)
    world.services.hub.release()
    answer = await waiting
    assert (answer.status_code, answer.json().get("code")) == (401, "unauthenticated")
