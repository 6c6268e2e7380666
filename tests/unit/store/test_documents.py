from __future__ import annotations

from dataclasses import fields

import bson
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import ErrorCode, JobError
from forebay.jobs import (
    Idempotency,
    Job,
    JobEnd,
    JobState,
    Lease,
    ProviderPreference,
    ResultRef,
    Usage,
    WebhookTarget,
)
from forebay.store.documents import CODEC, as_stored, from_document, to_document
from tests.contract.store.jobs import HOUR, PASSING, a_job, an_attempt, now


def a_full_job() -> Job:
    at = now()
    job = a_job(
        provider=ProviderPreference(("brave", "tavily"), allow_fallbacks=False),
        not_before=at,
        start_by=at + HOUR,
        deadline=at + 2 * HOUR,
        lease=Lease("token", "worker", at),
        published_at=at,
        idempotency=Idempotency("key", "fingerprint"),
        batch_id="batch_1",
        custom_id="first",
        key_id="key_1",
        tags=("a",),
        traceparent="00-a-b-01",
        started_at=at,
        finished_at=at,
        expires_at=at,
        result="{}",
        result_ref=ResultRef("token", 2, 5_000_000),
        error=JobError(ErrorCode.PROVIDER_ERROR, "it failed", retryable=True, retry_after_s=2.5),
        dead_lettered=True,
        webhook=WebhookTarget("https://example.com/", ("job.failed",)),
        notifies=True,
        untold=(JobEnd(1, JobState.FAILED, at),),
        usage=Usage(1, 2, 3),
    )
    attempt = an_attempt(job, provider="p", http_status=503, provider_request_id="r", error=PASSING)
    return job.evolve(history=(attempt, an_attempt(job)))


def test_every_field_goes_there_and_back() -> None:
    job = a_full_job()
    assert as_stored(job) == job
    empty = [field.name for field in fields(Job) if getattr(job, field.name) in (None, ())]
    assert empty == [], "a field without a value here is a field whose way is not tested"


def test_what_has_no_value_is_not_in_the_document() -> None:
    assert None not in to_document(a_job()).values()
    assert "lease" not in to_document(a_job())


def test_texts_of_a_caller_are_strings_never_documents() -> None:
    document = to_document(a_job(input='{"$ne": 1}', metadata='{"a.b": 1}', result='{"r": 1}'))
    assert [type(document[name]) for name in ("input", "metadata", "result")] == [str] * 3


def test_a_field_that_a_newer_version_wrote_is_passed_over() -> None:
    job = a_full_job()
    document = to_document(job)
    for place in (document, document["lease"], document["history"][0], document["error"]):
        place["later"] = 1
    assert from_document(document) == job


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_is_stored_verbatim(text: str) -> None:
    job = a_job(input=text, metadata=text, tenant=text, tags=(text,))
    assert as_stored(job) == job


def test_times_come_back_aware_in_utc() -> None:
    stored = from_document(bson.decode(bson.encode(to_document(a_job())), CODEC))
    assert stored.created_at.utcoffset() is not None
