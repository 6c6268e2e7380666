"""The worker that ends a job tells of it by webhook."""

from __future__ import annotations

import pytest

from forebay.errors import StoreUnavailable
from forebay.jobs import JobState, WebhookTarget
from forebay.store import JobQuery
from forebay.webhooks.delivery import about

from .conftest import TENANT, Rig

TARGET = WebhookTarget("https://example.com/hook")


async def test_the_end_is_told_before_the_message_is_settled(rig: Rig) -> None:
    async with rig.working():
        await rig.submit(notifies=True, webhook=TARGET)
        await rig.settled()
        (delivery,) = await rig.store.list(JobQuery(tenant=TENANT, deliveries=True))
    assert about(delivery)["event"] == "job.succeeded"
    assert about(delivery)["job"] == "job_1"
    assert (await rig.job()).untold == ()


async def test_a_job_that_nobody_asks_about_makes_no_delivery(rig: Rig) -> None:
    async with rig.working():
        await rig.submit()
        await rig.settled()
    assert [*await rig.store.list(JobQuery(tenant=TENANT, deliveries=True))] == []


async def test_what_cannot_be_told_now_is_left_to_the_notifier(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(rig.endpoints, "list", away)
    async with rig.working():
        await rig.submit(notifies=True, webhook=TARGET)
        await rig.settled()
    job = await rig.job()
    assert job.state is JobState.SUCCEEDED
    assert [end.state for end in job.untold] == [JobState.SUCCEEDED]
