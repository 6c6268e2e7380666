"""Webhook endpoints and the log of deliveries, over HTTP; the deliveries are made by hand."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from forebay.endpoints import OVERLAP, default_endpoint_id
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job, JobState
from forebay.store import JobQuery, JobRef
from forebay.webhooks.delivery import DeliveryRequest, about
from forebay.webhooks.notifier import Notifier
from ingress.routes.webhook_endpoints import EndpointSubmission
from ingress.webhook_views import DeliveryView, EndpointList, EndpointSecretView, EndpointView
from ingress.webhooks import KNOWN_FOR_S, MOST_ENDPOINTS
from tests.ingress_by_hand import SEARCH, World

URL = "https://example.com/hook"
ENDPOINTS = "/v1/webhook-endpoints"
DELIVERIES = "/v1/webhook-deliveries"


async def added(world: World, **fields: Any) -> dict[str, Any]:
    answer = await world.client.post(ENDPOINTS, json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    EndpointSecretView.model_validate(answer.json())
    assert answer.headers["Location"] == f"{ENDPOINTS}/{answer.json()['id']}"
    said: dict[str, Any] = answer.json()
    return said


async def told(world: World, event: Event = Event.SUCCEEDED, **fields: Any) -> tuple[str, Job]:
    """A job that has its end, and the first delivery made of it."""
    body = {"kind": "search", "input": SEARCH, **fields}
    job_id = (await world.client.post("/v1/jobs", json=body)).json()["id"]
    more: dict[str, Any] = {"result": "{}"} if event is Event.SUCCEEDED else {"error": FAILURE}
    ended = await world.finish(job_id, event, **more)
    await Notifier(world.store, world.services.webhooks._endpoints).tell(ended)
    found = await world.store.list(JobQuery(tenant="default", deliveries=True))
    return job_id, await world.stored(found[0].id)


FAILURE = JobError(ErrorCode.PROVIDER_ERROR, "it broke")


async def test_an_endpoint_is_added_shown_changed_and_removed(world: World) -> None:
    said = await added(world, events=["job.failed"], description="ops")
    secret = said.pop("secret")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 24
    path = f"{ENDPOINTS}/{said['id']}"
    assert (await world.client.get(path)).json() == said
    assert (await world.client.get(ENDPOINTS)).json() == {"object": "list", "data": [said]}
    EndpointList.model_validate((await world.client.get(ENDPOINTS)).json())
    changed = await world.client.patch(path, json={"disabled": True, "description": "off"})
    assert changed.json() == {
        **said,
        "disabled": True,
        "disabled_reason": "caller",
        "description": "off",
    }
    again = await world.client.patch(path, json={"disabled": False, "events": []})
    EndpointView.model_validate(again.json())
    assert again.json() == {**said, "description": "off", "events": []}
    assert (await world.client.get(f"{path}/secret")).json()["secret"] == secret
    assert (await world.client.delete(path)).status_code == 204
    for method, where in (
        ("GET", path),
        ("DELETE", path),
        ("GET", f"{path}/secret"),
        ("POST", f"{path}/rotate-secret"),
        ("POST", f"{path}/test"),
    ):
        answer = await world.client.request(method, where)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), where
    assert (await world.client.patch(path, json={})).status_code == 404


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/hook", "http://10.0.0.1/", "http://hooks.internal/", "https://x:22/"]
)
async def test_an_inner_address_is_refused_for_endpoints_and_for_jobs(
    world: World, url: str
) -> None:
    job = {"kind": "search", "input": SEARCH, "webhook": {"url": url}}
    endpoint = await added(world)
    for method, path, body, place in (
        ("POST", ENDPOINTS, {"url": url}, "/url"),
        ("PATCH", f"{ENDPOINTS}/{endpoint['id']}", {"url": url}, "/url"),
        ("POST", "/v1/jobs", job, "/webhook/url"),
    ):
        answer = await world.client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "address_forbidden")
        assert [part["pointer"] for part in answer.json()["errors"]] == [place]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/url"),
        ({"url": "ftp://example.com/"}, "/url"),
        ({"url": URL, "events": ["job.queued"]}, "/events/0"),
        ({"url": URL, "secret": "whsec_mine"}, "/secret"),
        ({"url": URL, "description": "x" * 257}, "/description"),
    ],
    ids=["missing", "scheme", "event", "unknown", "long"],
)
async def test_an_endpoint_that_is_none_is_422(world: World, body: Any, place: str) -> None:
    answer = await world.client.post(ENDPOINTS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert [part["pointer"] for part in answer.json()["errors"]] == [place]


@pytest.mark.parametrize("field", ["url", "events", "description", "disabled"])
async def test_null_is_no_change_of_an_endpoint(world: World, field: str) -> None:
    said = await added(world)
    path = f"{ENDPOINTS}/{said['id']}"
    answer = await world.client.patch(path, json={"description": "new"} | {field: None})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    (part,) = answer.json()["errors"]
    assert part["pointer"] == f"/{field}"
    assert part["detail"].startswith("Input should not be null")
    assert (await world.client.get(path)).json()["description"] == ""


async def test_a_tenant_has_so_many_endpoints_and_no_more(world: World) -> None:
    for _ in range(MOST_ENDPOINTS):
        await added(world)
    answer = await world.client.post(ENDPOINTS, json={"url": URL})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_endpoints")


@pytest.mark.parametrize("name", ["of an endpoint", "default"])
async def test_a_new_secret_signs_beside_the_old_one_for_a_day(world: World, name: str) -> None:
    said = (await added(world))["id"] if name != "default" else name
    path = f"{ENDPOINTS}/{said}"
    first = (await world.client.get(f"{path}/secret")).json()["secret"]
    second = (await world.client.post(f"{path}/rotate-secret")).json()["secret"]
    assert (await world.client.get(f"{path}/secret")).json()["secret"] == second != first
    endpoint_id = default_endpoint_id("default") if name == "default" else said
    endpoint = await world.services.webhooks._endpoints.get("default", endpoint_id)
    assert endpoint is not None
    assert endpoint.signing(world.clock.now) == (second, first)
    assert endpoint.signing(world.clock.now + OVERLAP) == (second,)
    assert (await world.client.get(path)).json()["id"] == said


async def test_the_default_endpoint_is_no_receiver(world: World) -> None:
    assert (await world.client.get(f"{ENDPOINTS}/default")).json()["url"] is None
    assert (await world.client.get(ENDPOINTS)).json()["data"] == []
    for method in ("PATCH", "DELETE"):
        answer = await world.client.request(method, f"{ENDPOINTS}/default", json={})
        assert answer.status_code == 404
    assert (await world.client.post(f"{ENDPOINTS}/default/test")).status_code == 404


async def test_the_default_endpoint_has_no_other_name(world: World) -> None:
    before = (await world.client.get(f"{ENDPOINTS}/default/secret")).json()
    path = f"{ENDPOINTS}/{default_endpoint_id('default')}"
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"url": URL}),
        ("DELETE", path, None),
        ("GET", f"{path}/secret", None),
        ("POST", f"{path}/rotate-secret", None),
        ("POST", f"{path}/test", None),
    ):
        answer = await world.client.request(method, where, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, where)
    assert (await world.client.get(f"{ENDPOINTS}/default/secret")).json() == before
    assert (await world.client.get(ENDPOINTS)).json()["data"] == []


async def test_a_job_is_told_of_only_if_somebody_listened_when_it_was_accepted(
    world: World,
) -> None:
    before = await world.submit()
    assert not (await world.stored(before["id"])).notifies
    endpoint = await added(world)
    after = await world.submit()
    assert (await world.stored(after["id"])).notifies
    batch = {"jobs": [{"kind": "search", "input": SEARCH, "webhook": {"url": URL}}]}
    await world.client.delete(f"{ENDPOINTS}/{endpoint['id']}")
    assert (await world.client.post("/v1/batches", json=batch)).status_code == 202
    own, *_ = (await world.client.get("/v1/jobs")).json()["data"]
    assert (await world.stored(own["id"])).notifies
    silent = await world.submit()
    assert not (await world.stored(silent["id"])).notifies
    assert KNOWN_FOR_S <= 5, "what docs/webhooks.md says"


async def test_many_who_submit_at_once_ask_the_store_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints, looks = world.services.webhooks._endpoints, 0
    there = endpoints.list

    async def counted(tenant: str) -> Any:
        nonlocal looks
        looks += 1
        return await there(tenant)

    monkeypatch.setattr(endpoints, "list", counted)
    await asyncio.gather(*(world.submit() for _ in range(20)))
    assert looks == 1


async def test_while_the_store_says_nothing_of_endpoints_a_job_is_one_that_is_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def hangs(_: str) -> Any:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.services.webhooks._endpoints, "list", hangs)
    job = await world.submit()
    assert asked.is_set()
    assert (await world.stored(job["id"])).notifies
    world.services.webhooks._known["default"].answer.cancel()


async def test_an_event_is_thin_signed_by_its_endpoint_and_holds_what_the_caller_wrote(
    world: World,
) -> None:
    endpoint = await added(world)
    job_id, delivery = await told(world, metadata={"user": "42", "$ne": 1})
    assert about(delivery) == {
        "job": job_id,
        "event": "job.succeeded",
        "endpoint": endpoint["id"],
    }
    request = DeliveryRequest.model_validate_json(delivery.input)
    assert (request.endpoint_id, request.url) == (endpoint["id"], None)
    body = json.loads(request.body)
    assert body["type"] == "job.succeeded"
    assert body["data"] == {
        "id": job_id,
        "kind": "search",
        "state": "succeeded",
        "generation": 1,
        "batch_id": None,
        "links": {"self": f"/v1/jobs/{job_id}", "result": f"/v1/jobs/{job_id}/result"},
        "metadata": {"user": "42", "$ne": 1},
    }
    assert body["timestamp"] == "2026" + body["timestamp"][4:]


async def test_each_end_is_told_to_those_who_want_it(world: World) -> None:
    await added(world, events=["job.succeeded"])
    wants = await added(world, events=["job.failed", "job.expired"])
    off = await added(world)
    await world.client.patch(f"{ENDPOINTS}/{off['id']}", json={"disabled": True})
    job_id, _ = await told(world, Event.FAILED, webhook={"url": URL, "events": ["job.failed"]})
    page = (await world.client.get(DELIVERIES)).json()["data"]
    for one in page:
        DeliveryView.model_validate(one)
    assert {one["endpoint_id"] for one in page} == {wants["id"], "default"}
    assert {(one["job_id"], one["event"]) for one in page} == {(job_id, "job.failed")}


async def test_a_delivery_is_no_job_of_the_caller(world: World) -> None:
    await added(world)
    job_id, delivery = await told(world)
    jobs = (await world.client.get("/v1/jobs")).json()["data"]
    assert [job["id"] for job in jobs] == [job_id]
    for method, path in (
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ):
        answer = await world.client.request(method, f"/v1/jobs/{delivery.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await world.client.post("/v1/jobs", json={"kind": "webhook", "input": {}})
    assert answer.status_code == 422
    answer = await world.client.get("/v1/jobs?kind=webhook")
    assert answer.status_code == 422
    replay = await world.client.post("/v1/jobs/replay", json={"kind": ["webhook"]})
    assert replay.status_code == 422
    await world.store.cancel("default", delivery.id)
    every = {"dry_run": True, "state": ["canceled", "succeeded"]}
    replay = await world.client.post("/v1/jobs/replay", json=every)
    assert replay.json()["job_ids"] == [job_id]


async def test_the_log_is_filtered_and_paged(world: World) -> None:
    await added(world)
    first, _ = await told(world)
    second, _ = await told(world, Event.FAILED, webhook={"url": URL})

    async def shown(**query: Any) -> list[tuple[str, str]]:
        answer = await world.client.get(DELIVERIES, params=query)
        assert answer.status_code == 200, answer.text
        return [(one["job_id"], one["endpoint_id"]) for one in answer.json()["data"]]

    assert len(await shown()) == 3
    assert await shown(job_id=first) == [(first, (await shown(job_id=first))[0][1])]
    assert len(await shown(job_id=second)) == 2
    assert await shown(endpoint_id="default") == [(second, "default")]
    assert len(await shown(event="job.failed")) == 2
    assert await shown(event="job.failed", endpoint_id="default") == [(second, "default")]
    assert await shown(state="succeeded") == []
    assert len(await shown(state="scheduled,queued")) == 3
    page = await world.client.get(DELIVERIES, params={"limit": 2})
    assert page.json()["has_more"]
    assert 'rel="next"' in page.headers["Link"]
    rest = await world.client.get(
        DELIVERIES, params={"limit": 2, "cursor": page.json()["next_cursor"]}
    )
    ids = [one["id"] for one in [*page.json()["data"], *rest.json()["data"]]]
    assert len(set(ids)) == 3
    assert ids == sorted(ids, reverse=True)
    assert not rest.json()["has_more"]
    for query in ({"cursor": "x"}, {"state": "lost"}, {"endpoint": "x"}):
        assert (await world.client.get(DELIVERIES, params=query)).status_code == 422


async def test_a_delivery_that_has_its_end_is_sent_again_under_its_id(world: World) -> None:
    await added(world)
    _, delivery = await told(world)
    path = f"{DELIVERIES}/{delivery.id}"
    answer = await world.client.post(f"{path}/redeliver")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_terminal")
    (due,) = await world.store.queue_due(10)
    ended = await world.finish(due.id, Event.FAILED, error=FAILURE)
    shown = (await world.client.get(path)).json()
    assert shown["error"]["code"] == "provider_error"
    assert [(one["n"], one["http_status"]) for one in shown["history"]] == [(1, 200)]
    answer = await world.client.post(f"{path}/redeliver")
    assert answer.status_code == 202
    assert answer.json()["id"] == delivery.id
    assert (answer.json()["generation"], answer.json()["state"]) == (2, "queued")
    again = await world.stored(delivery.id)
    assert (again.input, again.generation) == (delivery.input, ended.generation + 1)
    for name in ("msg_" + "0" * 32, "job_" + "0" * 32, "nonsense"):
        for method, where in (("GET", ""), ("POST", "/redeliver")):
            answer = await world.client.request(method, f"{DELIVERIES}/{name}{where}")
            assert answer.status_code == 404


async def test_a_test_event_goes_to_its_endpoint_alone(world: World) -> None:
    endpoint = await added(world)
    answer = await world.client.post(f"{ENDPOINTS}/{endpoint['id']}/test")
    assert answer.status_code == 202
    DeliveryView.model_validate(answer.json())
    said = answer.json()
    assert (said["event"], said["job_id"], said["endpoint_id"]) == (
        "webhook.test",
        None,
        endpoint["id"],
    )
    (due,) = await world.store.queue_due(10)
    assert due == JobRef.of(await world.stored(said["id"]))


@pytest.mark.parametrize("how", ["disabled", "removed"])
async def test_the_deliveries_that_wait_end_with_their_endpoint(world: World, how: str) -> None:
    endpoint = await added(world)
    _, delivery = await told(world)
    path = f"{ENDPOINTS}/{endpoint['id']}"
    if how == "disabled":
        await world.client.patch(path, json={"disabled": True})
    else:
        await world.client.delete(path)
    assert (await world.stored(delivery.id)).state is JobState.CANCELED


def test_the_example_of_an_endpoint_is_one() -> None:
    (example,) = EndpointSubmission.model_json_schema()["examples"]
    EndpointSubmission.model_validate_json(json.dumps(example))
