from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from forebay.endpoints import Endpoint, SigningSecret
from forebay.errors import StoreUnavailable
from forebay.jobs import JobState, WebhookTarget
from forebay.store import JobQuery
from forebay.store.endpoints import MemoryEndpointStore
from forebay.webhooks.delivery import about
from forebay.webhooks.notifier import Notifier
from reconciler.notifier import NotifierLoop

from .conftest import World

OWN = WebhookTarget("https://example.com/own")


def loop(world: World, endpoints: MemoryEndpointStore, batch: int = 10) -> NotifierLoop:
    notifier = Notifier(world.store, endpoints)
    return NotifierLoop(world.store, notifier, world.logger, after_s=2, batch=batch)


async def an_endpoint(endpoints: MemoryEndpointStore, name: str, **changes: Any) -> None:
    fields: dict[str, Any] = {"tenant": "t", "url": "https://example.com/", **changes}
    secrets = (SigningSecret("whsec_one"),)
    made = Endpoint(id=name, created_at=datetime.now(UTC), secrets=secrets, **fields)
    await endpoints.add(made)


async def deliveries(world: World, tenant: str = "t") -> dict[str, dict[str, str]]:
    found = await world.store.list(JobQuery(tenant=tenant, deliveries=True))
    return {one.id: about(one) for one in found}


async def test_the_ends_that_no_worker_told_of_are_told(world: World) -> None:
    endpoints = MemoryEndpointStore()
    await an_endpoint(endpoints, "we_1")
    await an_endpoint(endpoints, "we_2", events=("job.failed",))
    await an_endpoint(endpoints, "we_3", tenant="other")
    await world.submit("job_1", notifies=True, webhook=OWN)
    await world.submit("job_2")
    for job_id in ("job_1", "job_2"):
        await world.store.cancel("t", job_id)
    turning = loop(world, endpoints)
    await turning.turn()
    assert await deliveries(world) == {}, "a worker may be about to do it"
    world.advance(3)
    assert not await turning.turn()
    told = sorted(one["endpoint"] for one in (await deliveries(world)).values())
    assert len(told) == 2
    assert told[0] == "we_1" or told[1] == "we_1"
    assert {one["job"] for one in (await deliveries(world)).values()} == {"job_1"}
    assert {one["event"] for one in (await deliveries(world)).values()} == {"job.canceled"}
    assert (await world.job("job_1")).untold == ()
    made = await deliveries(world)
    await turning.turn()
    assert await deliveries(world) == made
    assert len(await world.store.queue_due(10)) == 2


async def test_who_died_before_the_mark_makes_the_same_deliveries_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = MemoryEndpointStore()
    await world.submit(notifies=True, webhook=OWN)
    await world.store.cancel("t", "job_1")
    world.advance(3)
    with monkeypatch.context() as broken:

        async def away(*_: object) -> None:
            raise StoreUnavailable

        broken.setattr(world.store, "told", away)
        with pytest.raises(StoreUnavailable):
            await loop(world, endpoints).turn()
    first = await deliveries(world)
    assert len(first) == 1
    assert (await world.job()).untold != ()
    await loop(world, endpoints).turn()
    assert await deliveries(world) == first
    assert (await world.job()).untold == ()


async def test_each_generation_is_told_under_an_id_of_its_own(world: World) -> None:
    endpoints = MemoryEndpointStore()
    await world.submit(notifies=True, webhook=OWN)
    await world.store.cancel("t", "job_1")
    await world.store.retry("t", "job_1")
    await world.store.cancel("t", "job_1")
    world.advance(3)
    await loop(world, endpoints).turn()
    assert len(await deliveries(world)) == 2
    assert (await world.job()).state is JobState.CANCELED


async def test_a_full_batch_says_that_there_may_be_more(world: World) -> None:
    for n in range(3):
        await world.submit(f"job_{n}", notifies=True, webhook=OWN)
        await world.store.cancel("t", f"job_{n}")
    world.advance(3)
    turning = loop(world, MemoryEndpointStore(), batch=2)
    assert [await turning.turn(), await turning.turn()] == [True, False]
    assert len(await deliveries(world)) == 3
