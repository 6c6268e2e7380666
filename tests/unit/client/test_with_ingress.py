"""Every call of the client, on a real ingress."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from forebay.client import (
    Batch,
    Conflict,
    CrawlRequest,
    Invalid,
    JobFailed,
    LlmRequest,
    NotDone,
    NotFound,
    SearchRequest,
)
from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, WebhookTarget

from .conftest import Service

LATER = datetime(2099, 1, 1, tzinfo=UTC)
DOWN = JobError(ErrorCode.PROVIDER_ERROR, "It is down.")


async def test_a_typed_input_is_submitted_with_what_was_said_of_the_job(service: Service) -> None:
    limit = datetime.now(UTC) + timedelta(hours=1)
    job = await service.client.submit(
        SearchRequest(query="weir", limit=3), lane="bulk", tags=["a", "b"], deadline=limit,
        metadata={"user": "42\u2028"}, retry={"max_attempts": 2},
        webhook={"url": "https://example.com/hook", "events": ["job.failed"]},
    )  # fmt: skip
    assert (job.kind, job.state, job.done, job.lane) == ("search", "queued", False, "bulk")
    assert (job.tags, job.metadata, job.max_attempts) == (("a", "b"), {"user": "42\u2028"}, 2)
    assert job.deadline is not None
    assert abs(job.deadline - limit) < timedelta(milliseconds=1)
    stored = await service.world.stored(job.id)
    assert '"limit":3' in stored.input.replace(" ", "")
    assert stored.idempotency is not None
    assert stored.webhook == WebhookTarget("https://example.com/hook", ("job.failed",))


@pytest.mark.parametrize(
    "request_",
    [
        CrawlRequest(url="https://example.com/"),
        LlmRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_a_job_is_of_the_kind_of_its_input(
    service: Service, request_: CrawlRequest | LlmRequest
) -> None:
    kind = "crawl" if isinstance(request_, CrawlRequest) else "llm"
    assert (await service.client.submit(request_)).kind == kind


async def test_shortcuts_take_fields_of_the_input_and_of_the_job_alike(service: Service) -> None:
    search = await service.client.search("weir", limit=2, site="example.com", tags=["x"])
    assert (search.kind, search.tags) == ("search", ("x",))
    stored = await service.world.stored(search.id)
    assert '"site":"example.com"' in stored.input.replace(" ", "")
    crawl = await service.client.crawl("https://example.com/", formats=["text"], lane="bulk")
    assert (crawl.kind, crawl.lane) == ("crawl", "bulk")
    llm = await service.client.llm("small", "Say hello.", max_tokens=5, not_before=LATER)
    assert (llm.kind, llm.state, llm.not_before) == ("llm", "scheduled", LATER)


async def test_the_same_key_is_the_same_job_and_without_one_each_is_another(
    service: Service,
) -> None:
    one, same, other, another = [
        await service.client.search("weir", **said)
        for said in ({"idempotency_key": "k"}, {"idempotency_key": "k"}, {}, {})
    ]
    assert one.id == same.id
    assert len({one.id, other.id, another.id}) == 3


async def test_what_is_refused_says_where_and_under_which_request(service: Service) -> None:
    with pytest.raises(Invalid) as refused:
        await service.client.submit("search", {"qeury": "secret words"})
    error = refused.value
    assert (error.status, error.code) == (422, "validation_error")
    assert {part.pointer for part in error.errors} == {"/input/query", "/input/qeury"}
    assert error.request_id is not None
    assert error.request_id in str(error)
    assert "/input/qeury: This field is not known" in str(error)
    assert "secret words" not in str(error)


async def test_a_job_is_looked_at_with_its_attempts_and_written_as_the_api_writes_it(
    service: Service,
) -> None:
    job = await service.client.search("weir")
    await service.world.finish(job.id, Event.SUCCEEDED, result='{"results": []}')
    seen = await service.client.get(job, attempts=True)
    assert (seen.succeeded, seen.result) == (True, {"results": []})
    assert seen.history is not None
    assert [attempt.provider for attempt in seen.history] == ["searxng"]
    raw = await service.world.client.get(f"/v1/jobs/{job.id}", params={"include": "attempts"})
    assert seen.as_json() == raw.json()


async def test_who_waits_gets_the_end_and_who_waits_too_shortly_is_told(service: Service) -> None:
    job = await service.client.search("weir")
    with pytest.raises(NotDone, match=job.id) as waited:
        await service.client.wait(job, timeout_s=0.05)
    assert isinstance(waited.value, TimeoutError)
    assert waited.value.seen is not None
    assert not waited.value.seen.done
    await service.world.finish(job.id, Event.SUCCEEDED, result="[1]")
    assert (await service.client.wait(job.id)).succeeded
    assert await service.client.result(job) == [1]


async def test_a_job_without_a_result_raises_with_the_job(service: Service) -> None:
    job = await service.client.search("weir")
    await service.world.finish(job.id, Event.FAILED, error=DOWN)
    with pytest.raises(JobFailed, match="provider_error: It is down") as failed:
        await service.client.result(job)
    assert failed.value.job.state == "failed"
    assert (await service.client.wait(job)).error is not None


async def test_a_job_is_canceled_run_again_and_forgotten(service: Service) -> None:
    client = service.client
    job = await client.search("weir")
    with pytest.raises(Conflict, match="not_terminal"):
        await client.delete(job)
    canceled = await client.cancel(job)
    assert (canceled.state, canceled.done) == ("canceled", True)
    again = await client.retry(canceled)
    assert (again.state, again.generation) == ("queued", 2)
    with pytest.raises(Conflict, match="other_generation"):
        await client.retry(canceled)
    with pytest.raises(Conflict, match="not_terminal"):
        await client.retry(job.id)
    await client.cancel(job.id)
    await client.delete(job.id)
    for call in (client.get, client.delete, client.cancel, client.retry):
        with pytest.raises(NotFound):
            await call(job.id)


async def test_nothing_in_an_id_leads_elsewhere(service: Service) -> None:
    for nonsense in ("../jobs", "", "job_1/result", "?limit=1", "%2e%2e"):
        with pytest.raises(NotFound):
            await service.client.cancel(nonsense)


async def test_a_list_follows_its_pages_with_all_its_filters(service: Service) -> None:
    client = service.client
    jobs = [await client.search(f"weir {n}", tags=["a,b", str(n)]) for n in range(5)]
    await client.crawl("https://example.com/", tags=["a,b"])
    page = await client.list(limit=2, kind="search", tag=["a,b"])
    assert [job.id for job in page.data] == [jobs[4].id, jobs[3].id]
    assert page.has_more
    following = await client.list(limit=2, cursor=page.next_cursor, kind="search", tag=["a,b"])
    assert [job.id for job in following.data] == [jobs[2].id, jobs[1].id]
    found = [job.id async for job in client.iterate(tag=["0", "1"], order="oldest")]
    assert found == [jobs[0].id, jobs[1].id]
    assert [job.id async for job in client.iterate(state=["failed", "expired"])] == []
    assert [job.id async for job in client.iterate(created_after=LATER)] == []
    assert len([job async for job in client.iterate(dead_lettered=False)]) == 6


async def test_more_than_a_page_is_iterated_whole(service: Service) -> None:
    batch = await service.client.submit_batch(SearchRequest(query=f"{n}") for n in range(450))
    ids = [job.id async for job in service.client.iterate(kind="search")]
    assert len(ids) == len(set(ids)) == batch.accepted == 450


async def test_failed_jobs_run_again_by_a_filter_first_dry(service: Service) -> None:
    client = service.client
    jobs = [await client.search(f"weir {n}", tags=["t"]) for n in range(3)]
    for job in jobs[:2]:
        await service.world.finish(job.id, Event.FAILED, error=DOWN)
    preview = await client.replay(dry_run=True, tag="t", error_code=["provider_error"])
    assert (preview.matched, set(preview.job_ids)) == (2, {job.id for job in jobs[:2]})
    batch = await client.replay(kind="search", limit=1, created_before=LATER)
    assert isinstance(batch, Batch)
    assert (batch.total, batch.counts) == (1, {"queued": 1})
    assert (await client.get(jobs[0])).generation == 2


async def test_a_batch_is_sent_counted_and_read(service: Service) -> None:
    client = service.client
    items = [
        SearchRequest(query="weir"),
        {"kind": "search", "input": {"query": "dam"}, "custom_id": "second"},
        b'{"kind": "search", "input": {"query": "gate"}, "custom_id": "third"}',
        {"kind": "search", "input": {"query": ""}},
    ]
    with pytest.raises(Invalid) as refused:
        await client.submit_batch(items)
    assert refused.value.errors[0].pointer == "/3/input/query"
    batch = await client.submit_batch(items, on_invalid="skip")
    assert (batch.total, batch.accepted, batch.rejected, batch.done) == (4, 3, 1, False)
    assert [(one.index, one.error.code) for one in batch.errors] == [(3, "validation_error")]
    with pytest.raises(NotDone):
        await client.wait_batch(batch, timeout_s=0.05)
    for n, job in enumerate([job async for job in client.iterate(order="oldest")]):
        if n < 2:
            await service.world.finish(job.id, Event.SUCCEEDED, result=f"[{n}]")
        else:
            await service.world.finish(job.id, Event.FAILED, error=DOWN)
    ended = await client.wait_batch(batch.id)
    assert ended.counts == {"succeeded": 2, "failed": 1}
    assert not ended.succeeded
    results = [line async for line in client.batch_results(batch)]
    assert [(one.custom_id, one.result) for one in results] == [
        (None, [0]), ("second", [1]), ("third", None),
    ]  # fmt: skip
    assert [one.error.code for one in results if one.error] == ["provider_error"]
    assert (await client.retry_batch(batch)).counts == {"succeeded": 2, "queued": 1}
    assert (await client.cancel_batch(batch)).counts == {"succeeded": 2, "canceled": 1}
    again = await client.retry_batch(batch, state=["canceled", "succeeded"])
    assert again.counts == {"queued": 3}
    with pytest.raises(NotFound):
        await client.batch("batch_" + "0" * 32)


async def test_a_batch_can_come_from_where_it_is_made_only_once(service: Service) -> None:
    async def items():  # type: ignore[no-untyped-def]
        for n in range(3):
            yield SearchRequest(query=f"weir {n}")

    assert (await service.client.submit_batch(items())).accepted == 3


async def test_a_submission_may_wait_for_the_end(service: Service) -> None:
    job = await service.client.search("weir", idempotency_key="k")
    await service.world.finish(job.id, Event.SUCCEEDED, result="[1]")
    ended = await service.client.search("weir", idempotency_key="k", wait_s=20)
    assert (ended.id, ended.result) == (job.id, [1])
