"""Every call of the client about webhooks, on a real ingress; and what it makes of lost answers."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.client import (
    Client,
    Conflict,
    Invalid,
    NotDone,
    NotFound,
    SearchRequest,
    Unavailable,
    Unreachable,
    WebhookDelivery,
    WebhookEvent,
    WebhookSecret,
)
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event
from tests.unit.client.conftest import Script, Service, a_problem

URL = "https://example.com/hook"
FORBIDDEN = "http://169.254.169.254/hook"
REFUSED = JobError(ErrorCode.PROVIDER_ERROR, "The receiver answered 500.")


async def test_an_endpoint_is_made_seen_changed_and_removed(service: Service) -> None:
    client = service.client
    made = await client.create_webhook(URL, events=["job.failed"], description="ops")
    assert (made.url, made.events, made.description) == (URL, (WebhookEvent.JOB_FAILED,), "ops")
    seen = await client.webhook(made)
    assert seen == (await client.list_webhooks())[0]
    assert seen.as_json() == {k: v for k, v in made.as_json().items() if k != "secret"}
    off = await client.change_webhook(made, disabled=True, events=[])
    assert (off.disabled, off.disabled_reason, off.events) == (True, "caller", ())
    assert off.description == "ops"
    await client.remove_webhook(made.id)
    assert await client.list_webhooks() == ()
    for call in (
        client.webhook, client.remove_webhook, client.webhook_secret,
        client.rotate_webhook_secret, client.test_webhook, client.change_webhook,
    ):  # fmt: skip
        with pytest.raises(NotFound, match="webhook endpoint"):
            await call(made)


async def test_a_forbidden_address_is_refused_with_its_place(service: Service) -> None:
    with pytest.raises(Invalid, match="`url`") as refused:
        await service.client.create_webhook(FORBIDDEN)
    assert refused.value.code == "address_forbidden"
    with pytest.raises(Invalid, match=r"`webhook\.url`"):
        await service.client.search("weir", webhook={"url": FORBIDDEN})


async def test_a_secret_is_told_rotated_and_in_no_repr(service: Service) -> None:
    client = service.client
    made = await client.create_webhook(URL)
    rotated = await client.rotate_webhook_secret(made)
    present = await client.webhook_secret(made)
    default = await client.webhook_secret()
    assert (default.id, default.url) == ("default", None)
    assert present.secret == rotated.secret != made.secret
    for endpoint in (made, rotated, default):
        secret = endpoint.secret.get_secret_value()
        assert secret.startswith("whsec_")
        assert secret not in f"{endpoint!r} {endpoint} {endpoint.secret} {endpoint.model_dump()}"
        assert endpoint.as_json()["secret"] == secret
        raw = await service.world.client.get(f"/v1/webhook-endpoints/{endpoint.id}/secret")
        assert endpoint.as_json().keys() == raw.json().keys()


async def test_jobs_and_batches_name_a_url_of_their_own(service: Service) -> None:
    client = service.client
    job = await client.search("weir", webhook={"url": URL, "events": ["job.failed"]})
    typed = await client.submit(SearchRequest(query="weir"), webhook={"url": URL})
    batch = await client.submit_batch(
        [{"kind": "search", "input": {"query": "weir"}, "webhook": {"url": URL}}]
    )
    (in_batch,) = [one async for one in client.iterate(batch_id=batch.id)]
    for job_id, events in ((job.id, ("job.failed",)), (typed.id, ()), (in_batch.id, ())):
        target = (await service.world.stored(job_id)).webhook
        assert target is not None
        assert (target.url, target.events) == (URL, events)


async def test_deliveries_are_listed_by_what_they_are_waited_for_and_sent_again(
    service: Service,
) -> None:
    client, world = service.client, service.world
    made, other = await client.create_webhook(URL), await client.create_webhook(URL)
    first, second = await client.test_webhook(made), await client.test_webhook(made.id)
    elsewhere = await client.test_webhook(other)
    assert (first.event, first.endpoint_id, first.job_id) == ("webhook.test", made.id, None)
    with pytest.raises(NotDone, match=first.id) as late:
        await client.wait_delivery(first, timeout_s=0.05)
    assert isinstance(late.value.seen, WebhookDelivery)
    with pytest.raises(Conflict, match="not_terminal"):
        await client.redeliver(first)

    await world.store.queue_due(10)
    await world.finish(first.id, Event.SUCCEEDED, result="{}")
    await world.finish(second.id, Event.FAILED, error=REFUSED)
    ended = await client.wait_delivery(first.id)
    assert (ended.done, ended.succeeded, ended.attempts) == (True, True, 1)
    assert [one.http_status for one in ended.history] == [200]
    failed = await client.delivery(second)
    assert failed.error is not None
    assert (failed.succeeded, failed.error.code) == (False, "provider_error")

    async def ids(**filters: Any) -> list[str]:
        return [one.id async for one in client.iterate_deliveries(**filters)]

    assert await ids() == [elsewhere.id, second.id, first.id]
    assert await ids(endpoint_id=made.id) == [second.id, first.id]
    assert await ids(state=["failed", "succeeded"], event="webhook.test") == [second.id, first.id]
    assert await ids(job_id="job_" + "0" * 32) == []
    page = await client.list_deliveries(limit=2)
    assert page.has_more
    following = await client.list_deliveries(limit=2, cursor=page.next_cursor)
    assert [one.id for one in following.data] == [first.id]

    again = await client.redeliver(second)
    assert (again.id, again.generation, again.done) == (second.id, 2, False)
    for call in (client.delivery, client.redeliver):
        with pytest.raises(NotFound, match="delivery"):
            await call("msg_" + "0" * 32)


async def test_more_deliveries_than_a_page_are_iterated_whole(service: Service) -> None:
    made = await service.client.create_webhook(URL)
    for _ in range(201):
        await service.client.test_webhook(made)
    ids = [one.id async for one in service.client.iterate_deliveries()]
    assert len(ids) == len(set(ids)) == 201


def an_endpoint(**more: Any) -> dict[str, Any]:
    return {"id": "we_1", "url": URL, "secret": "whsec_of-mine"} | more


def a_delivery(state: str = "queued", **more: Any) -> dict[str, Any]:
    return {"id": "msg_1", "state": state, "event": "webhook.test", "endpoint_id": "we_1"} | more


async def test_what_a_repeat_would_do_twice_is_sent_once(api: Script, client: Client) -> None:
    api.plays(None, (503, a_problem(503, "overloaded", retryable=True)))
    with pytest.raises(Unreachable):
        await client.create_webhook(URL)
    with pytest.raises(Unavailable):
        await client.rotate_webhook_secret("we_1")
    assert [one.path for one in api.seen] == [
        "/v1/webhook-endpoints", "/v1/webhook-endpoints/we_1/rotate-secret",
    ]  # fmt: skip


async def test_what_was_done_at_the_first_try_is_no_error_at_the_repeat(
    api: Script, client: Client
) -> None:
    api.plays(None, (404, a_problem(404, "not_found")))
    await client.remove_webhook("we_1")
    api.plays(None, (409, a_problem(409, "not_terminal")), (200, a_delivery("running")))
    assert (await client.redeliver("msg_1")).state == "running"
    api.plays((404, a_problem(404, "not_found")), (409, a_problem(409, "not_terminal")))
    with pytest.raises(NotFound):
        await client.remove_webhook("we_1")
    with pytest.raises(Conflict):
        await client.redeliver("msg_1")


async def test_a_newer_service_is_understood(api: Script, client: Client) -> None:
    api.plays(
        (200, an_endpoint(events=["job.paused"], color="red")),
        (200, a_delivery("paused", event="job.paused", history=[{"n": 1, "outcome": "odd"}])),
    )
    endpoint = await client.webhook_secret("we_1")
    assert isinstance(endpoint, WebhookSecret)
    assert endpoint.events == ("job.paused",)
    assert endpoint.as_json() == an_endpoint(events=["job.paused"], color="red")
    delivery = await client.delivery("msg_1")
    assert (delivery.state, delivery.event, delivery.done) == ("paused", "job.paused", False)
    assert delivery.history[0].http_status is None


async def test_nothing_in_an_id_leads_elsewhere(service: Service) -> None:
    client = service.client
    for nonsense in ("../jobs", "we_1/secret", "?limit=1", "%2e%2e"):
        for call in (client.webhook, client.test_webhook, client.delivery, client.redeliver):
            with pytest.raises(NotFound):
                await call(nonsense)
