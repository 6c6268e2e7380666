"""S1: every route with one's own key, another tenant's, none, a revoked one, one that may not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute

from forebay.keys import Role, Token
from ingress.access import MAY, NEEDS, PUBLIC_PATHS, Access, access_of, route_name
from ingress.app import describe_app
from ingress.routes.direct import DirectRoute
from ingress.settings import Authentication
from tests.ingress_by_hand import SEARCH, World, ingress
from tests.keys_by_hand import Held, give

GUARDED = [route for route, access in NEEDS.items() if access is not Access.PUBLIC]
WITH_ID = [route for route in GUARDED if "{" in route]
BODIES: dict[str, Any] = {
    "POST /v1/jobs": {"kind": "search", "input": SEARCH},
    "POST /v1/search": SEARCH,
    "POST /v1/crawl": {"url": "https://example.com/"},
    "POST /v1/llm": {"model": "small", "messages": [{"role": "user", "content": "x"}]},
    "POST /v1/jobs/replay": {"dry_run": True},
    "POST /v1/batches": {"jobs": [{"kind": "search", "input": SEARCH}]},
    "POST /v1/keys": {"name": "another"},
    "POST /v1/webhook-endpoints": {"url": "https://example.com/hook"},
    "PATCH /v1/webhook-endpoints/{endpoint_id}": {"description": "mine"},
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress(authentication=Authentication.KEYS) as opened:
        yield opened


class Scene:
    """A tenant with one of everything."""

    def __init__(self, world: World, ids: dict[str, str]) -> None:
        self.world = world
        self.ids = ids

    @classmethod
    async def begin(cls, world: World) -> Scene:
        owner = await give(world, Role.ADMIN)
        job = await world.submit(**owner.headers)
        # Over, so that its stream of events ends by itself.
        await world.client.post(f"/v1/jobs/{job['id']}/cancel", headers=owner.headers)
        body = BODIES["POST /v1/batches"]
        batch = await world.client.post("/v1/batches", json=body, headers=owner.headers)
        spare = await give(world, Role.READ_ONLY)
        hooks, body = "/v1/webhook-endpoints", BODIES["POST /v1/webhook-endpoints"]
        endpoint = (await world.client.post(hooks, json=body, headers=owner.headers)).json()
        tested = await world.client.post(f"{hooks}/{endpoint['id']}/test", headers=owner.headers)
        ids = {
            "job_id": job["id"],
            "batch_id": batch.json()["id"],
            "key_id": spare.key.id,
            "endpoint_id": endpoint["id"],
            "delivery_id": tested.json()["id"],
        }
        return cls(world, ids)

    async def call(
        self, route: str, headers: dict[str, str], ids: dict[str, str] | None = None
    ) -> httpx.Response:
        method, path = route.split(" ")
        path = path.format(**(ids or self.ids))
        body = BODIES.get(route)
        return await self.world.client.request(method, path, json=body, headers=headers)


@pytest.fixture
async def scene(world: World) -> Scene:
    return await Scene.begin(world)


def apart_from_the_request(answer: httpx.Response) -> dict[str, Any]:
    said: dict[str, Any] = answer.json()
    return {name: said[name] for name in said if name not in {"instance", "request_id"}}


def name_of(route: BaseRoute) -> str:
    return str(getattr(route, "path", route))


def test_every_route_of_the_application_is_in_the_table_and_nothing_else_is() -> None:
    routes = describe_app().router.routes
    others = {name_of(route) for route in routes if not isinstance(route, DirectRoute)}
    assert others == PUBLIC_PATHS
    direct = [route for route in routes if isinstance(route, DirectRoute)]
    assert {route_name(route.methods or (), route.path) for route in direct} == NEEDS.keys()
    assert {r for r, access in NEEDS.items() if access is Access.PUBLIC} == {
        "GET /livez",
        "GET /readyz",
        "GET /metrics",
        "* /v1/jobs/replay",
    }


def test_a_route_that_is_not_in_the_table_cannot_be_made() -> None:
    with pytest.raises(LookupError, match="GET /v1/forgotten"):
        access_of({"GET"}, "/v1/forgotten")


def test_only_what_changes_nothing_is_for_reading() -> None:
    for route, access in NEEDS.items():
        assert access is not Access.READ or route.startswith("GET "), route
    assert MAY[Role.READ_ONLY] < MAY[Role.USER] < MAY[Role.ADMIN]


@pytest.mark.parametrize("route", GUARDED)
async def test_nobody_is_let_in_without_a_live_key(scene: Scene, route: str) -> None:
    revoked, expired = await give(scene.world), await give(scene.world, expires_in_s=-1)
    await scene.world.services.keys.revoke("acme", revoked.key.id)
    live, unknown = await give(scene.world), Token("key_" + "0" * 32, "0" * 48)
    wrong_secret = Token(live.key.id, unknown.secret)
    tried = [
        {},
        {"Authorization": str(live.token)},
        {"Authorization": f"Basic {live.token}"},
        {"Authorization": "Bearer \x7f"},
        {"Authorization": f"Bearer {live.token}0"},
        {"Authorization": f"Bearer {unknown}"},
        {"Authorization": f"Bearer {wrong_secret}"},
        revoked.headers,
        expired.headers,
    ]
    jobs = len(scene.world.store._jobs)
    answers = [await scene.call(route, headers) for headers in tried]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert len({str(apart_from_the_request(answer)) for answer in answers}) == 1
    assert answers[0].json()["code"] == "unauthenticated"
    assert len(scene.world.store._jobs) == jobs


@pytest.mark.parametrize("route", WITH_ID)
async def test_anothers_id_is_the_same_answer_as_an_unknown_one(scene: Scene, route: str) -> None:
    other = await give(scene.world, Role.ADMIN, tenant="other")
    unknown = {name: re.sub("[0-9a-f]{32}", "0" * 32, text) for name, text in scene.ids.items()}
    nonsense = dict.fromkeys(scene.ids, "nonsense")
    theirs = await scene.call(route, other.headers)
    assert theirs.status_code == 404
    for ids in (unknown, nonsense):
        answer = await scene.call(route, other.headers, ids)
        assert apart_from_the_request(answer) == apart_from_the_request(theirs)
        assert answer.headers.keys() == theirs.headers.keys()


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_what_the_table_says(scene: Scene, route: str, role: Role) -> None:
    caller = await give(scene.world, role)
    answer = await scene.call(route, caller.headers)
    if NEEDS[route] in MAY[role]:
        assert answer.status_code in {200, 201, 202, 204, 409}, answer.text
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_probes_and_descriptions_need_no_key(world: World, path: str) -> None:
    assert (await world.client.get(path)).status_code == 200


async def test_lists_keys_and_cursors_of_one_tenant_are_nothing_to_another(world: World) -> None:
    one, other = await give(world), await give(world, tenant="other")
    admin = await give(world, Role.ADMIN, tenant="other")
    key = {"Idempotency-Key": "the-same"}
    mine = [await world.submit(**one.headers, **key), await world.submit(**one.headers)]
    theirs = await world.submit(**other.headers, **key)
    assert theirs["id"] != mine[0]["id"]

    listed = await world.client.get("/v1/jobs", headers=other.headers)
    assert [job["id"] for job in listed.json()["data"]] == [theirs["id"]]
    page = await world.client.get("/v1/jobs?limit=1", headers=one.headers)
    cursor = page.json()["next_cursor"]
    for holder, status in ((one, 200), (other, 422)):
        answer = await world.client.get(f"/v1/jobs?cursor={cursor}", headers=holder.headers)
        assert answer.status_code == status
    replay = {"state": ["canceled"], "dry_run": True}
    for job in mine:
        await world.client.post(f"/v1/jobs/{job['id']}/cancel", headers=one.headers)
    found = await world.client.post("/v1/jobs/replay", json=replay, headers=other.headers)
    assert found.json()["matched"] == 0
    keys = await world.client.get("/v1/keys", headers=admin.headers)
    assert {key["id"] for key in keys.json()["data"]} == {other.key.id, admin.key.id}


async def test_a_batch_can_only_name_the_jobs_of_its_tenant(world: World) -> None:
    one, other = await give(world), await give(world, tenant="other")
    batch = await world.client.post(
        "/v1/batches", json=BODIES["POST /v1/batches"], headers=one.headers
    )
    (job_id,) = [job.id for job in world.store._jobs.values() if job.batch_id == batch.json()["id"]]
    assert (await world.client.get(f"/v1/jobs/{job_id}", headers=one.headers)).status_code == 200
    assert (await world.client.get(f"/v1/jobs/{job_id}", headers=other.headers)).status_code == 404


async def test_no_secret_is_said_logged_or_counted(scene: Scene) -> None:
    world = scene.world
    holder: Held = await give(world, Role.ADMIN)
    made = await world.client.post("/v1/keys", json={"name": "x"}, headers=holder.headers)
    secret = made.json()["secret"].rpartition("_")[2]
    wrong = {"Authorization": f"Bearer {holder.token}x"}
    answers = [await scene.call(r, headers) for r in GUARDED for headers in (holder.headers, wrong)]
    said = [answer.text for answer in answers]
    said += [(await world.client.get("/metrics")).text, str(world.logs), repr(holder)]
    assert {line["event"] for line in world.logs} >= {"key.created", "key.revoked"}
    for text in said:
        assert holder.token.secret not in text
        assert secret not in text


async def test_in_open_mode_everybody_is_let_in_and_nobody_is_an_admin() -> None:
    async with ingress() as world:
        await world.submit()
        for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys")):
            answer = await world.client.request(method, path, json={"name": "x"})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
