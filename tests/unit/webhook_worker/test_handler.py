from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from forebay.endpoints import SigningSecret, default_endpoint_id, new_secret
from forebay.errors import ErrorCode, StoreUnavailable
from forebay.jobs import JobState
from forebay.outcomes import Failed, Retry, Snooze, Succeeded
from forebay.store.endpoints import EndpointChange
from forebay.testing.polling import until
from forebay.webhooks.delivery import DeliveryRequest
from webhook_worker.handler import READ_S

from .conftest import BODY, TENANT, World


async def test_a_delivery_is_verified_by_the_unmodified_library(world: World) -> None:
    endpoint = await world.endpoint()
    outcome = await world.send()
    assert isinstance(outcome, Succeeded)
    assert outcome.call.http_status == 204
    ((headers, body),) = world.sink.heard
    assert body == BODY.encode()
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "msg_1"
    said = Webhook(endpoint.secrets[0].value).verify(body, headers)
    assert said["type"] == "job.succeeded"
    for changed in (body + b" ", body.replace(b"job_1", b"job_2")):
        with pytest.raises(WebhookVerificationError):
            Webhook(endpoint.secrets[0].value).verify(changed, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


async def test_after_a_rotation_either_secret_verifies_it(world: World) -> None:
    secrets = (SigningSecret(new_secret()), SigningSecret(new_secret()))
    await world.endpoint(secrets=secrets)
    await world.send()
    ((headers, body),) = world.sink.heard
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        Webhook(secret.value).verify(body, headers)


async def test_what_a_job_names_itself_is_signed_by_the_default_endpoint(world: World) -> None:
    default = default_endpoint_id(TENANT)
    assert isinstance(await world.send(world.delivery(default), url=world.sink.url), Succeeded)
    endpoint = await world.endpoints.get(TENANT, default)
    assert endpoint is not None, "made at its first use"
    assert len(base64.b64decode(endpoint.secrets[0].value.removeprefix("whsec_"))) == 24
    await world.send(world.delivery(default), url=world.sink.url)
    for headers, body in world.sink.heard:
        Webhook(endpoint.secrets[0].value).verify(body, headers)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 409, 429, 500, 502, 503])
async def test_only_2xx_is_success_and_no_redirect_is_followed(world: World, status: int) -> None:
    await world.endpoint()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": world.sink.url})

    world.sink.answer = answer
    outcome = await world.send()
    assert isinstance(outcome, Retry)
    assert outcome.error.retryable
    assert outcome.call is not None
    assert outcome.call.http_status == status
    assert len(world.sink.heard) == 1


@pytest.mark.parametrize(
    ("status", "said", "wish_s"),
    [(429, "120", 120.0), (503, "7", 7.0), (503, "soon", None), (500, "120", None)],
)
async def test_a_receiver_may_ask_for_time(
    world: World, status: int, said: str, wish_s: float | None
) -> None:
    await world.endpoint()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": said})

    world.sink.answer = answer
    outcome = await world.send()
    assert isinstance(outcome, Retry)
    assert outcome.error.retry_after_s == wish_s


async def test_410_disables_the_endpoint_and_ends_what_waits_for_it(world: World) -> None:
    await world.endpoint()
    waits = world.delivery(id="msg_2")
    await world.jobs.insert([waits])

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=410)

    world.sink.answer = answer
    assert isinstance(await world.send(), Failed)
    endpoint = await world.endpoints.get(TENANT, "we_1")
    assert endpoint is not None
    assert (endpoint.disabled, endpoint.disabled_reason) == (True, "gone")
    stored = await world.jobs.get(TENANT, "msg_2")
    assert stored is not None
    assert stored.state is JobState.CANCELED
    outcome = await world.send()
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ENDPOINT_DISABLED
    assert len(world.sink.heard) == 1


async def test_410_of_an_endpoint_that_moved_meanwhile_disables_nothing(world: World) -> None:
    await world.endpoint()

    async def move(_: web.Request) -> web.Response:
        await world.endpoints.change(TENANT, "we_1", EndpointChange(url="https://example.com/new"))
        return web.Response(status=410)

    world.sink.answer = move
    assert isinstance(await world.send(), Failed)
    endpoint = await world.endpoints.get(TENANT, "we_1")
    assert endpoint is not None
    assert not endpoint.disabled


async def test_410_of_a_url_that_a_job_names_disables_nothing(world: World) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=410)

    world.sink.answer = answer
    default = default_endpoint_id(TENANT)
    assert isinstance(await world.send(world.delivery(default), url=world.sink.url), Failed)
    endpoint = await world.endpoints.get(TENANT, default)
    assert endpoint is not None
    assert not endpoint.disabled


@pytest.mark.parametrize("tenant", ["other", TENANT])
async def test_another_tenants_endpoint_is_none(world: World, tenant: str) -> None:
    await world.endpoint(tenant="somebody")
    outcome = await world.send(world.delivery(tenant=tenant))
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ENDPOINT_DISABLED
    assert world.sink.heard == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://169.254.169.254/"])
async def test_a_forbidden_address_is_not_connected_to(world: World, url: str) -> None:
    await world.endpoint(url=url)
    outcome = await world.send()
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.ADDRESS_FORBIDDEN


async def test_a_huge_answer_is_not_read_and_its_status_counts(world: World) -> None:
    await world.endpoint()
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 * 1024 * 1024:
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    world.sink.answer = answer
    assert isinstance(await world.send(), Succeeded)
    assert sent < 32 * 1024 * 1024, "what the sockets hold, and no more"


async def test_an_answer_that_drips_is_waited_for_a_moment(world: World) -> None:
    await world.endpoint()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(READ_S / 10)

    world.sink.answer = answer
    assert isinstance(await world.send(), Succeeded)


async def test_a_receiver_that_hangs_up_is_tried_again(world: World) -> None:
    await world.endpoint()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    world.sink.answer = answer
    outcome = await world.send()
    assert isinstance(outcome, Retry)
    assert outcome.call is not None
    assert (outcome.call.provider, outcome.call.http_status) == ("webhook", None)
    assert len(world.sink.heard) == 1


async def test_who_comes_to_a_busy_receiver_is_put_back_uncounted(world: World) -> None:
    await world.endpoint()
    free = asyncio.Event()

    async def both_are_there() -> bool:
        return len(world.sink.heard) == 2

    async def answer(_: web.Request) -> web.Response:
        await free.wait()
        return web.Response()

    world.sink.answer = answer
    busy = [asyncio.create_task(world.send()) for _ in range(2)]
    await until(both_are_there, 30)
    assert isinstance(await world.send(), Snooze)
    free.set()
    assert all(isinstance(outcome, Succeeded) for outcome in await asyncio.gather(*busy))
    assert isinstance(await world.send(), Succeeded)


async def test_without_its_store_nothing_is_sent_and_nothing_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(world.endpoints, "get", away)
    assert isinstance(await world.send(), Snooze)
    assert world.sink.heard == []


def test_a_request_that_a_newer_version_wrote_is_refused() -> None:
    with pytest.raises(ValueError, match="later"):
        DeliveryRequest.model_validate({"endpoint_id": "we_1", "body": "{}", "later": 1})
