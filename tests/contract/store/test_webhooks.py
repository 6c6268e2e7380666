"""Ends that are still to be told by webhook, the deliveries, and the endpoints they go to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import uuid_utils

from forebay.endpoints import (
    MOST_SECRETS,
    Endpoint,
    SigningSecret,
    WebhookEvent,
    default_endpoint,
)
from forebay.jobs import Event, Job, JobEnd, JobKind, JobState, WebhookTarget
from forebay.store import JobQuery, JobRef, JobStore
from forebay.store.endpoints import EndpointChange, EndpointStore
from tests.contract.store.jobs import (
    HOUR,
    PASSING,
    a_canceling_job,
    a_job,
    a_waiting_job,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    stored,
    token_of,
)

TARGET = WebhookTarget("https://example.com/hook", ("job.failed",))


def a_delivery(*tags: str, **changes: Any) -> Job:
    about = {"kind": JobKind.WEBHOOK, "id": f"msg_{uuid_utils.uuid7().hex}", "tags": tags}
    return a_job(**{**about, **changes})


def an_endpoint(**changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "id": f"we_{uuid_utils.uuid7().hex}",
        "tenant": "default",
        "url": "https://example.com/hook",
        "created_at": now(),
        "secrets": (SigningSecret("whsec_one"),),
    }
    return Endpoint(**{**fields, **changes})


async def test_a_job_keeps_whom_to_tell(store: JobStore) -> None:
    job = a_job(webhook=TARGET, notifies=True)
    await inserted(store, job)
    assert await stored(store, job) == job


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Event.SUCCEEDED, JobState.SUCCEEDED),
        (Event.FAILED, JobState.FAILED),
        (Event.EXPIRED, JobState.EXPIRED),
    ],
)
async def test_the_end_of_an_attempt_leaves_the_end_to_tell(
    store: JobStore, event: Event, state: JobState
) -> None:
    job = await started(store, notifies=True)
    ended = await store.finish(job.id, token_of(job), an_ending(job, event))
    assert ended is not None
    assert ended.finished_at is not None
    assert ended.untold == (JobEnd(1, state, ended.finished_at),)
    assert await stored(store, job) == ended


async def test_nothing_is_left_by_what_is_not_an_end_or_nobody_wants_to_hear_of(
    store: JobStore,
) -> None:
    silent = await started(store)
    ended = await store.finish(silent.id, token_of(silent), an_ending(silent, Event.SUCCEEDED))
    assert ended is not None
    assert ended.untold == ()
    job = await started(store, notifies=True)
    again = an_ending(job, Event.RETRY_LATER, error=PASSING, wait_s=60)
    waits = await store.finish(job.id, token_of(job), again)
    assert waits is not None
    assert waits.untold == ()
    assert [*await store.untold(0, 10)] == []


async def test_every_other_way_to_end_leaves_it_too(store: JobStore) -> None:
    canceled, overdue = a_job(notifies=True), a_job(notifies=True, deadline=now() - HOUR)
    stopping = a_canceling_job(until=now() - HOUR, notifies=True)
    many, running = a_waiting_job(HOUR, notifies=True), await started(store, notifies=True)
    await inserted(store, canceled, overdue, stopping, many)
    lost = await started(store, lease_s=0, notifies=True, max_attempts=1)
    await store.cancel("default", canceled.id)
    await store.cancel_many("default", [many.id])
    await store.cancel("default", running.id)  # goes on: no end yet
    await store.expire(10)
    await store.rescue(10)
    ends = {job.id: [end.state for end in job.untold] for job in await store.untold(0, 10)}
    assert ends == {
        canceled.id: [JobState.CANCELED],
        many.id: [JobState.CANCELED],
        overdue.id: [JobState.EXPIRED],
        stopping.id: [JobState.CANCELED],
        lost.id: [JobState.FAILED],
    }


async def test_what_was_told_is_not_to_tell_any_more(store: JobStore) -> None:
    job = await started(store, notifies=True)
    await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED))
    assert [found.id for found in await store.untold(0, 10)] == [job.id]
    assert [*await store.untold(3600, 10)] == []
    await store.told(job.id, 2)
    assert [found.id for found in await store.untold(0, 10)] == [job.id]
    await store.told(job.id, 1)
    await store.told(job.id, 1)
    await store.told("job_gone", 1)
    assert [*await store.untold(0, 10)] == []
    assert (await stored(store, job)).untold == ()


async def test_a_retry_by_hand_leaves_the_end_before_to_tell(store: JobStore) -> None:
    job = await started(store, notifies=True)
    await store.finish(job.id, token_of(job), an_ending(job, Event.FAILED, error=PASSING))
    again = await store.retry("default", job.id)
    assert again is not None
    assert [(end.generation, end.state) for end in again.untold] == [(1, JobState.FAILED)]
    running = await claimed(store, again)
    await store.finish(job.id, token_of(running), an_ending(running, Event.SUCCEEDED))
    (found,) = await store.untold(0, 10)
    assert [(end.generation, end.state) for end in found.untold] == [
        (1, JobState.FAILED),
        (2, JobState.SUCCEEDED),
    ]
    await store.told(job.id, 1)
    assert [end.generation for end in (await stored(store, job)).untold] == [2]


async def test_the_earliest_end_is_told_first(store: JobStore) -> None:
    jobs = [a_job(notifies=True) for _ in range(3)]
    await inserted(store, *jobs)
    for job in jobs:
        await store.cancel("default", job.id)
    assert len(await store.untold(0, 2)) == 2


async def test_a_list_has_jobs_or_deliveries(store: JobStore) -> None:
    job, delivery = a_job(), a_delivery("job:1", "event:job.failed", "endpoint:we_1")
    other = a_delivery("job:1", "event:job.succeeded", "endpoint:we_2")
    await inserted(store, job, delivery, other, a_delivery(tenant="other"))

    async def listed(**filters: Any) -> set[str]:
        return {found.id for found in await store.list(JobQuery(tenant="default", **filters))}

    assert await listed() == {job.id}
    assert await listed(tags=frozenset({"job:1"})) == set()
    assert await listed(deliveries=True) == {delivery.id, other.id}
    both = frozenset({"job:1", "endpoint:we_1"})
    assert await listed(deliveries=True, all_tags=both) == {delivery.id}
    assert (
        await listed(deliveries=True, all_tags=both, states=frozenset({JobState.FAILED})) == set()
    )


async def test_the_waiting_deliveries_of_an_endpoint_are_canceled_together(store: JobStore) -> None:
    mine = [a_delivery("endpoint:we_1"), a_delivery("endpoint:we_1", state=JobState.SUCCEEDED)]
    running = a_delivery("endpoint:we_1")
    others = [a_delivery("endpoint:we_2"), a_delivery("endpoint:we_1", tenant="other")]
    job = a_job(tags=("endpoint:we_1",))
    await inserted(store, *mine, running, *others, job)
    await claimed(store, running)
    assert await store.cancel_deliveries("default", "endpoint:we_1") == 1
    states = [(await stored(store, one)).state for one in [*mine, running, *others, job]]
    assert states == [
        JobState.CANCELED,
        JobState.SUCCEEDED,
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.QUEUED,
        JobState.QUEUED,
    ]


async def test_a_delivery_is_claimed_like_any_job(store: JobStore) -> None:
    delivery = a_delivery(state=JobState.SCHEDULED, queued_at=None, not_before=now())
    await inserted(store, delivery)
    (due,) = await store.queue_due(10)
    assert due.kind is JobKind.WEBHOOK
    held = await claimed(store, await stored(store, delivery))
    assert (held.attempts, JobRef.of(held).id) == (1, delivery.id)


async def test_an_endpoint_is_kept_as_it_was_added_and_its_id_is_taken(
    endpoints: EndpointStore,
) -> None:
    endpoint = an_endpoint(events=("job.failed",), description="$ops")
    assert await endpoints.add(endpoint) == endpoint
    assert await endpoints.get("default", endpoint.id) == endpoint
    assert await endpoints.get("other", endpoint.id) is None
    other = endpoint.evolve(secrets=(SigningSecret("whsec_two"),))
    assert await endpoints.add(other) == endpoint


async def test_a_list_of_endpoints_is_one_tenants_and_without_the_default_one(
    endpoints: EndpointStore,
) -> None:
    first, second = an_endpoint(), an_endpoint()
    for endpoint in (second, first, an_endpoint(tenant="o"), default_endpoint("default", now())):
        await endpoints.add(endpoint)
    assert [*await endpoints.list("default")] == [first, second]


async def test_a_change_sets_what_it_names(endpoints: EndpointStore) -> None:
    endpoint = an_endpoint(description="before")
    await endpoints.add(endpoint)
    assert await endpoints.change("default", endpoint.id, EndpointChange()) == endpoint
    to = EndpointChange(url="https://example.com/$new", events=("job.failed",), description="")
    changed = await endpoints.change("default", endpoint.id, to)
    assert changed == endpoint.evolve(
        url="https://example.com/$new", events=("job.failed",), description=""
    )
    off = EndpointChange(disabled=True, disabled_reason="gone")
    disabled = await endpoints.change("default", endpoint.id, off)
    assert disabled is not None
    assert (disabled.disabled, disabled.disabled_reason) == (True, "gone")
    assert not disabled.hears(WebhookEvent.JOB_FAILED)
    enabled = await endpoints.change("default", endpoint.id, EndpointChange(disabled=False))
    assert enabled == changed
    assert await endpoints.change("other", endpoint.id, off) is None
    assert await endpoints.get("default", endpoint.id) == enabled


async def test_old_secrets_sign_on_until_their_time(endpoints: EndpointStore) -> None:
    endpoint = an_endpoint()
    await endpoints.add(endpoint)
    first, second = now() + HOUR, now() + 2 * HOUR
    await endpoints.rotate("default", endpoint.id, "whsec_two", first)
    rotated = await endpoints.rotate("default", endpoint.id, "$three", second)
    assert rotated is not None
    assert rotated.secrets == (
        SigningSecret("$three"),
        SigningSecret("whsec_two", second),
        SigningSecret("whsec_one", first),
    )
    assert rotated.signing(now()) == ("$three", "whsec_two", "whsec_one")
    assert rotated.signing(first + timedelta(seconds=1)) == ("$three", "whsec_two")
    for n in range(MOST_SECRETS):
        rotated = await endpoints.rotate("default", endpoint.id, f"whsec_{n}", second)
    assert rotated is not None
    assert len(rotated.secrets) == MOST_SECRETS
    assert await endpoints.rotate("other", endpoint.id, "whsec_x", first) is None


async def test_a_removed_endpoint_is_gone(endpoints: EndpointStore) -> None:
    endpoint = an_endpoint()
    await endpoints.add(endpoint)
    assert not await endpoints.remove("other", endpoint.id)
    assert await endpoints.remove("default", endpoint.id)
    assert not await endpoints.remove("default", endpoint.id)
    assert await endpoints.get("default", endpoint.id) is None
