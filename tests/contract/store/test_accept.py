from __future__ import annotations

import asyncio

import pytest

from forebay.jobs import Event, Idempotency, JobKind, JobState
from forebay.store import Inserted, JobQuery, JobStore, KeyTaken
from forebay.store.results import CHUNK_BYTES, INLINE_BYTES
from tests.contract.store.conftest import Backend
from tests.contract.store.jobs import (
    HOUR,
    a_job,
    an_ending,
    inserted,
    now,
    started,
    stored,
    token_of,
)


async def test_a_stored_job_comes_back_equal_in_every_field(store: JobStore) -> None:
    job = a_job(
        tags=("a", "b"),
        metadata='{"order": 7}',
        traceparent="00-abc-def-01",
        not_before=now() - HOUR,
        start_by=now() + HOUR,
        deadline=now() + 2 * HOUR,
        idempotency=Idempotency("key", "fingerprint"),
        result_ttl_s=60,
    )
    assert await store.insert([job]) == [Inserted()]
    assert await store.get("default", job.id) == job


async def test_times_keep_milliseconds_in_utc(store: JobStore) -> None:
    at = now().replace(microsecond=123_987)
    job = a_job(created_at=at)
    await inserted(store, job)
    assert (await stored(store, job)).created_at == at.replace(microsecond=123_000)


async def test_nothing_to_insert_is_nothing(store: JobStore) -> None:
    assert [*await store.insert([])] == []


async def test_the_same_job_twice_is_inserted_again(store: JobStore) -> None:
    job = a_job(idempotency=Idempotency("key", "f"))
    assert await store.insert([job]) == [Inserted()]
    assert await store.insert([job, a_job()]) == [Inserted(), Inserted()]


async def test_a_repeat_changes_nothing_of_a_job_that_went_on(store: JobStore) -> None:
    job = await started(store)
    await store.insert([job.evolve(state=JobState.QUEUED, lease=None, attempts=0)])
    assert (await stored(store, job)).state is JobState.RUNNING


async def test_a_key_taken_fails_its_own_job_only(store: JobStore) -> None:
    first = a_job(idempotency=Idempotency("key", "f"))
    await inserted(store, first)
    second, other = a_job(idempotency=Idempotency("key", "f")), a_job()
    assert await store.insert([second, other]) == [KeyTaken(), Inserted()]
    assert await store.get("default", second.id) is None
    assert await store.get("default", other.id) == other


async def test_two_jobs_of_one_batch_cannot_share_a_key(store: JobStore) -> None:
    pair = [a_job(idempotency=Idempotency("key", "f")) for _ in range(2)]
    assert await store.insert(pair) == [Inserted(), KeyTaken()]


async def test_fifty_at_once_with_one_key_make_one_job(store: JobStore) -> None:
    jobs = [a_job(idempotency=Idempotency("key", "f")) for _ in range(50)]
    answers = await asyncio.gather(*(store.insert([job]) for job in jobs))
    assert answers.count([Inserted()]) == 1
    assert answers.count([KeyTaken()]) == 49


async def test_a_key_belongs_to_its_tenant(store: JobStore) -> None:
    ours = a_job(tenant="ours", idempotency=Idempotency("key", "f"))
    theirs = a_job(tenant="theirs", idempotency=Idempotency("key", "f"))
    assert await store.insert([ours, theirs]) == [Inserted(), Inserted()]
    assert await store.find_by_key("ours", "key") == ours
    assert await store.find_by_key("theirs", "key") == theirs
    assert await store.find_by_key("others", "key") is None


async def test_jobs_without_a_key_never_collide(store: JobStore) -> None:
    assert await store.insert([a_job(), a_job()]) == [Inserted(), Inserted()]


async def test_another_tenants_job_is_as_unknown_as_none(store: JobStore) -> None:
    job = a_job(tenant="theirs")
    await inserted(store, job)
    assert await store.get("ours", job.id) is None
    assert await store.get("ours", "job_none") is None


async def test_a_list_is_newest_first_and_of_one_tenant(store: JobStore) -> None:
    jobs = [a_job(tenant="ours") for _ in range(3)]
    await inserted(store, *jobs, a_job(tenant="theirs"))
    listed = await store.list(JobQuery(tenant="ours"))
    assert [job.id for job in listed] == [job.id for job in reversed(jobs)]


async def test_a_list_leaves_input_and_result_out(store: JobStore) -> None:
    await inserted(store, a_job(metadata='{"a": 1}'))
    (listed,) = await store.list(JobQuery(tenant="default"))
    assert (listed.input, listed.result, listed.metadata) == ("", None, '{"a": 1}')


async def test_a_list_goes_on_from_its_cursor_without_gap_or_repeat(store: JobStore) -> None:
    jobs = [a_job() for _ in range(5)]
    await inserted(store, *jobs)
    seen: list[str] = []
    before = None
    while page := await store.list(JobQuery(tenant="default", limit=2, beyond=before)):
        seen += [job.id for job in page]
        before = page[-1].id
    assert seen == [job.id for job in reversed(jobs)]


@pytest.mark.parametrize(
    ("states", "kinds", "expected"),
    [
        (frozenset({JobState.RUNNING}), frozenset(), {"running"}),
        (frozenset(), frozenset({JobKind.LLM}), {"llm"}),
        (frozenset({JobState.QUEUED, JobState.RUNNING}), frozenset({JobKind.SEARCH}), {"running"}),
        (frozenset({JobState.FAILED}), frozenset(), set()),
    ],
)
async def test_a_list_is_filtered_by_state_and_kind(
    store: JobStore,
    states: frozenset[JobState],
    kinds: frozenset[JobKind],
    expected: set[str],
) -> None:
    await inserted(store, a_job(kind=JobKind.LLM, tags=("llm",)))
    await started(store, tags=("running",))
    listed = await store.list(JobQuery(tenant="default", states=states, kinds=kinds))
    assert {tag for job in listed for tag in job.tags} == expected


async def test_the_finished_are_the_terminal_and_the_gone(store: JobStore) -> None:
    active, over = a_job(), a_job(state=JobState.FAILED)
    await inserted(store, active, over)
    assert await store.finished([active.id, over.id, "job_gone"]) == {over.id, "job_gone"}
    assert await store.finished([]) == frozenset()


async def test_jobs_are_looked_up_by_id_whatever_their_tenant(store: JobStore) -> None:
    ours, theirs = a_job(tenant="ours"), a_job(tenant="theirs")
    await inserted(store, ours, theirs, a_job())
    looked_up = await store.look_up([ours.id, theirs.id, ours.id, "job_none"])
    assert sorted(job.id for job in looked_up) == [ours.id, theirs.id]
    assert {job.tenant for job in looked_up} == {"ours", "theirs"}
    assert [*await store.look_up([])] == []


@pytest.mark.parametrize("size", [10, INLINE_BYTES])
async def test_a_look_up_says_that_there_is_a_result_and_leaves_the_texts_out(
    store: JobStore, size: int
) -> None:
    job, bare = await started(store, tags=("with",)), a_job()
    await inserted(store, bare)
    result = f'"{"x" * size}"'
    await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=result))
    ended = await stored(store, job)
    with_result, without = sorted(
        await store.look_up([job.id, bare.id]), key=lambda found: found.tags, reverse=True
    )
    inline = "" if size < INLINE_BYTES else None
    assert with_result == ended.evolve(input="", result=inline)
    assert (with_result.result_ref is None) == (inline is not None)
    assert without == bare.evolve(input="")


async def test_a_look_up_does_not_show_a_large_result_of_which_a_piece_is_lost(
    store: JobStore, backend: Backend
) -> None:
    job = await started(store)
    result = f'"{"x" * CHUNK_BYTES}"'
    await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=result))
    (whole,) = await store.look_up([job.id])
    assert whole.result_ref is not None
    assert whole.result_ref.chunks == 2
    await backend.lose_a_piece(store)
    assert [*await store.look_up([job.id])] == [whole.evolve(result_ref=None)]
    assert await store.result(await stored(store, job)) is None


async def test_preparing_and_pinging_can_be_repeated(store: JobStore) -> None:
    await store.prepare()
    await store.prepare()
    await store.ping()
