from __future__ import annotations

import json

import pytest

from forebay.errors import JobError, Unstorable
from forebay.jobs import Event, Idempotency, Usage
from forebay.store import Claimed, Inserted, JobQuery, JobRef, JobStore
from tests.contract.store.jobs import (
    PASSING,
    a_job,
    an_attempt,
    an_ending,
    inserted,
    started,
    stored,
    token_of,
)

HOSTILE = [
    "$ne",
    "$state",
    "$$NOW",
    "$$REMOVE",
    "$where",
    "a.b.c",
    ".",
    "",
    "NUL \x00 inside",
    "'; while(1); //",
    '{"$ne": null}',
    '{"$where": "sleep(1e9)"}',
    '{"$literal": "$input"}',
    '{"$ref": "jobs", "$id": "x", "$db": "admin"}',
    '{"a.b": {"": {"$gt": ""}}}',
    '{"k\\u0000": 1}',
    str(2**70),
    json.dumps({"n": 2**70, "m": -(2**70), "f": 1e308}),
    '"\\ud800"',
    "\U0001f30a \u202e \ufeff \uffff",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_of_a_caller_is_stored_verbatim(store: JobStore, text: str) -> None:
    job = a_job(
        tenant=f"t{text}",
        input=text,
        metadata=text,
        tags=(text, text),
        traceparent=text,
        idempotency=Idempotency(text, text),
    )
    assert await store.insert([job]) == [Inserted()]
    assert await store.get(f"t{text}", job.id) == job
    assert await store.find_by_key(f"t{text}", text) == job
    assert len(await store.list(JobQuery(tenant=f"t{text}"))) == 1


@pytest.mark.parametrize("text", HOSTILE)
async def test_text_of_a_provider_is_stored_verbatim(store: JobStore, text: str) -> None:
    job = await started(store)
    error = JobError(PASSING.code, text, retryable=True)
    attempt = an_attempt(job, provider=text, provider_request_id=text, worker=text, error=error)
    ending = an_ending(job, Event.FAILED, error=error, attempt=attempt)
    failed = await store.finish(job.id, token_of(job), ending)
    assert failed is not None
    assert failed.error == error
    assert failed.history == (attempt,)
    assert await stored(store, job) == failed


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_result_is_stored_verbatim(store: JobStore, text: str) -> None:
    job = await started(store)
    done = await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=text))
    assert done is not None
    assert await store.result(done) == text


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_hostile_id_or_token_finds_nothing(store: JobStore, text: str) -> None:
    job = await started(store)
    assert await store.get("default", text) is None
    assert await store.get(text, job.id) is None
    assert await store.finish(job.id, text, an_ending(job, Event.SUCCEEDED)) is None
    assert await store.find_by_key("default", text) is None


@pytest.mark.parametrize("field", ["input", "metadata", "traceparent", "tenant"])
async def test_a_lone_surrogate_is_refused_before_anything_is_written(
    store: JobStore, field: str
) -> None:
    job = a_job(**{field: "\ud800"})
    with pytest.raises(Unstorable):
        await store.insert([job])
    assert await store.finished([job.id]) == {job.id}


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (Event.SUCCEEDED, {"result": "\ud800"}),
        (Event.SUCCEEDED, {"result": "x" * 300_000 + "\ud800"}),
        (Event.SUCCEEDED, {"usage": Usage(input_tokens=2**70)}),
        (Event.FAILED, {"error": JobError(PASSING.code, "\ud800")}),
    ],
)
async def test_an_ending_that_cannot_be_written_changes_nothing(
    store: JobStore, event: Event, changes: dict[str, object]
) -> None:
    job = await started(store)
    with pytest.raises(Unstorable):
        await store.finish(job.id, token_of(job), an_ending(job, event, **changes))
    assert await stored(store, job) == job


async def test_a_job_larger_than_a_document_is_refused(store: JobStore) -> None:
    job = a_job(input="x" * (17 * 1024 * 1024))
    with pytest.raises(Unstorable):
        await store.insert([job])
    assert await store.get("default", job.id) is None


async def test_unstorable_never_repeats_the_text(store: JobStore) -> None:
    with pytest.raises(Unstorable) as refused:
        await store.insert([a_job(input="canary \ud800")])
    assert "canary" not in str(refused.value)


async def test_a_worker_name_is_only_a_name(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    claim = await store.claim(JobRef.of(job), "$tenant", 60)
    assert isinstance(claim, Claimed)
    assert claim.job.lease is not None
    assert claim.job.lease.worker == "$tenant"
