from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from forebay.errors import ErrorCode, IllegalTransition, JobError
from forebay.jobs import Event, JobState, Usage
from forebay.store import Ending, JobRef, JobStore
from forebay.store.results import CHUNK_BYTES, INLINE_BYTES
from forebay.store.updates import MOST_HISTORY
from tests.contract.store.jobs import (
    PASSING,
    a_canceling_job,
    a_job,
    an_attempt,
    an_ending,
    claimed,
    inserted,
    started,
    stored,
    token_of,
)

KIB = 1024
ENDS = [
    (Event.SUCCEEDED, JobState.SUCCEEDED),
    (Event.FAILED, JobState.FAILED),
    (Event.EXPIRED, JobState.EXPIRED),
]


@pytest.mark.parametrize(("event", "state"), ENDS)
async def test_an_end_is_terminal_dated_and_without_lease(
    store: JobStore, event: Event, state: JobState
) -> None:
    job = await started(store, result_ttl_s=60)
    ending = an_ending(job, event)
    ended = await store.finish(job.id, token_of(job), ending)
    assert ended is not None
    assert ended.state is state
    assert ended.lease is None
    assert ended.history == (ending.attempt,)
    assert ended.finished_at is not None
    assert ended.expires_at == ended.finished_at + timedelta(seconds=60)
    assert await stored(store, job) == ended


async def test_expires_at_is_set_in_a_terminal_state_only(store: JobStore) -> None:
    job = await started(store)
    assert job.expires_at is None
    waits = await store.finish(job.id, token_of(job), an_ending(job, Event.RETRY_LATER))
    assert waits is not None
    assert waits.expires_at is None


async def test_success_stores_result_and_usage_and_clears_the_error(store: JobStore) -> None:
    job = await started(store, error=PASSING)
    usage = Usage(input_tokens=3, output_tokens=5)
    ending = an_ending(job, Event.SUCCEEDED, usage=usage)
    ended = await store.finish(job.id, token_of(job), ending)
    assert ended is not None
    assert (ended.result, ended.usage, ended.error) == ('{"ok": true}', usage, None)


async def test_failure_stores_why_and_no_result(store: JobStore) -> None:
    job = await started(store)
    error = JobError(ErrorCode.PROVIDER_REJECTED, "it refuses", retry_after_s=1.5)
    ending = an_ending(job, Event.FAILED, error=error, dead_lettered=True)
    ended = await store.finish(job.id, token_of(job), ending)
    assert ended is not None
    assert (ended.error, ended.dead_lettered, ended.result) == (error, True, None)
    assert await store.result(ended) is None


async def test_a_retry_waits_in_the_store_and_counts(store: JobStore) -> None:
    job = await started(store)
    await store.mark_published([JobRef.of(job)])
    ending = an_ending(job, Event.RETRY_LATER, error=PASSING, wait_s=60)
    waits = await store.finish(job.id, token_of(job), ending)
    assert waits is not None
    assert (waits.state, waits.attempts, waits.error) == (JobState.RETRYING, 1, PASSING)
    assert waits.published_at is None
    assert waits.not_before is not None
    assert waits.started_at is not None
    assert waits.not_before >= waits.started_at + timedelta(seconds=60)
    assert waits.finished_at is None


async def test_a_snooze_gives_the_attempt_back(store: JobStore) -> None:
    job = await started(store)
    ending = an_ending(job, Event.SNOOZED, wait_s=60, uncount=True)
    waits = await store.finish(job.id, token_of(job), ending)
    assert waits is not None
    assert (waits.state, waits.attempts) == (JobState.RETRYING, 0)
    assert len(waits.history) == 1


async def test_a_job_handed_back_can_be_claimed_at_once(store: JobStore) -> None:
    job = await started(store)
    back = await store.finish(
        job.id, token_of(job), an_ending(job, Event.HANDED_BACK, uncount=True)
    )
    assert back is not None
    assert (back.state, back.attempts, back.not_before) == (JobState.QUEUED, 0, None)
    assert (await claimed(store, back)).attempts == 1


async def test_a_job_handed_back_is_the_relays_until_it_is_published_again(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    await store.mark_published([JobRef.of(job)])
    job = await claimed(store, job)
    await store.finish(job.id, token_of(job), an_ending(job, Event.HANDED_BACK))
    assert [ref.id for ref in await store.unpublished(0, 10)] == [job.id]


async def test_attempts_never_go_below_none(store: JobStore) -> None:
    job = a_canceling_job(attempts=0, state=JobState.RUNNING)
    await inserted(store, job)
    back = await store.finish(job.id, "t", an_ending(job, Event.HANDED_BACK, uncount=True))
    assert back is not None
    assert back.attempts == 0


async def test_a_lapsed_lease_that_nobody_took_still_ends(store: JobStore) -> None:
    job = await started(store, lease_s=0)
    assert await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED)) is not None


async def test_a_stale_worker_writes_nothing(store: JobStore) -> None:
    stale = await started(store, lease_s=0)
    current = await claimed(store, stale)
    late = an_ending(stale, Event.SUCCEEDED, result='"stale"')
    assert await store.finish(stale.id, token_of(stale), late) is None
    assert await stored(store, current) == current


async def test_a_worker_whose_job_was_rescued_writes_nothing(store: JobStore) -> None:
    job = await started(store, lease_s=0)
    await store.rescue(10)
    assert await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED)) is None
    assert (await stored(store, job)).result is None


async def test_an_ending_for_no_job_writes_nothing(store: JobStore) -> None:
    job = await started(store)
    assert await store.finish("job_none", "t", an_ending(job, Event.SUCCEEDED)) is None


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.RETRY_LATER, Event.HANDED_BACK])
async def test_the_same_ending_again_is_the_same_job_and_one_record(
    store: JobStore, event: Event
) -> None:
    job = await started(store)
    ending = an_ending(job, event, wait_s=60)
    first = await store.finish(job.id, token_of(job), ending)
    assert first is not None
    assert await store.finish(job.id, token_of(job), ending) == first
    assert len((await stored(store, job)).history) == 1


async def test_a_repeat_after_the_next_claim_does_not_touch_that_claim(store: JobStore) -> None:
    job = await started(store)
    ending = an_ending(job, Event.RETRY_LATER)
    await store.finish(job.id, token_of(job), ending)
    again = await claimed(store, job)
    assert await store.finish(job.id, token_of(job), ending) == again
    assert await stored(store, job) == again


async def test_fifty_ends_at_once_write_one_record(store: JobStore) -> None:
    job = await started(store)
    ending = an_ending(job, Event.SUCCEEDED)
    ends = await asyncio.gather(*(store.finish(job.id, token_of(job), ending) for _ in range(50)))
    assert all(end is not None for end in ends)
    assert len((await stored(store, job)).history) == 1


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Event.CANCELED, JobState.CANCELED),
        (Event.SUCCEEDED, JobState.SUCCEEDED),
        (Event.FAILED, JobState.FAILED),
    ],
)
async def test_a_canceling_job_ends_as_its_call_did(
    store: JobStore, event: Event, state: JobState
) -> None:
    job = a_canceling_job(token="t")
    await inserted(store, job)
    ended = await store.finish(job.id, "t", an_ending(job, event))
    assert ended is not None
    assert ended.state is state


@pytest.mark.parametrize("event", [Event.RETRY_LATER, Event.SNOOZED, Event.HANDED_BACK])
async def test_a_canceling_job_cannot_go_on(store: JobStore, event: Event) -> None:
    job = a_canceling_job(token="t")
    await inserted(store, job)
    with pytest.raises(IllegalTransition):
        await store.finish(job.id, "t", an_ending(job, event))
    assert await stored(store, job) == job


async def test_nobody_ends_as_canceled_what_was_not_asked_to_stop(store: JobStore) -> None:
    job = await started(store)
    with pytest.raises(IllegalTransition):
        await store.finish(job.id, token_of(job), an_ending(job, Event.CANCELED))
    assert await stored(store, job) == job


async def test_a_retry_without_an_attempt_left_is_illegal(store: JobStore) -> None:
    job = await started(store, max_attempts=1)
    with pytest.raises(IllegalTransition, match="no attempt left"):
        await store.finish(job.id, token_of(job), an_ending(job, Event.RETRY_LATER))
    assert await stored(store, job) == job


@pytest.mark.parametrize("event", [Event.CLAIMED, Event.DUE, Event.LEASE_LOST, Event.CANCEL])
async def test_an_event_that_ends_nothing_makes_no_ending(store: JobStore, event: Event) -> None:
    job = await started(store)
    with pytest.raises(ValueError, match="does not end"):
        Ending(event=event, attempt=an_attempt(job))


@pytest.mark.parametrize(
    ("event", "result"), [(Event.SUCCEEDED, None), (Event.FAILED, '"r"'), (Event.SNOOZED, '""')]
)
async def test_a_result_belongs_to_success_alone(
    store: JobStore, event: Event, result: str | None
) -> None:
    job = await started(store)
    with pytest.raises(ValueError, match="result"):
        an_ending(job, event, result=result)


async def test_history_keeps_the_latest_attempts(store: JobStore) -> None:
    job = await started(store)
    old = tuple(an_attempt(job, n=n) for n in range(MOST_HISTORY))
    full = await started(store, history=old)
    ending = an_ending(full, Event.SUCCEEDED)
    ended = await store.finish(full.id, token_of(full), ending)
    assert ended is not None
    assert ended.history == (*old[1:], ending.attempt)


async def finished_with(store: JobStore, result: str, **changes: Any) -> Any:
    job = await started(store, **changes)
    return await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=result))


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
async def test_a_small_result_is_on_the_job(store: JobStore, size: int) -> None:
    ended = await finished_with(store, "r" * size)
    assert (ended.result, ended.result_ref) == ("r" * size, None)
    assert await store.result(ended) == "r" * size


async def test_the_limit_for_a_small_result_counts_bytes_not_letters(store: JobStore) -> None:
    text = "\u00e9" * (INLINE_BYTES // 2 + 1)
    ended = await finished_with(store, text)
    assert ended.result is None
    assert ended.result_ref.bytes == INLINE_BYTES + 2
    assert await store.result(ended) == text


@pytest.mark.parametrize(
    ("size", "chunks"), [(300 * KIB, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2)]
)
async def test_a_large_result_stands_beside_the_job(
    store: JobStore, size: int, chunks: int
) -> None:
    text = ("0123456789abcdef" * (size // 16 + 1))[:size]
    ended = await finished_with(store, text)
    assert ended.result is None
    assert (ended.result_ref.chunks, ended.result_ref.bytes) == (chunks, size)
    assert await stored(store, ended) == ended
    assert await store.result(ended) == text


async def test_a_letter_cut_by_a_chunks_edge_comes_back_whole(store: JobStore) -> None:
    text = "x" * (CHUNK_BYTES - 1) + "\U0001f30a" + "y" * 10
    assert await store.result(await finished_with(store, text)) == text


async def test_a_result_of_forty_megabytes_comes_back(store: JobStore) -> None:
    text = "0123456789" * 4_000_000
    ended = await finished_with(store, text)
    assert ended.result_ref.chunks == 39
    assert await store.result(ended) == text


async def test_the_same_large_ending_again_keeps_its_result(store: JobStore) -> None:
    job = await started(store)
    ending = an_ending(job, Event.SUCCEEDED, result="r" * (300 * KIB))
    first = await store.finish(job.id, token_of(job), ending)
    again = await store.finish(job.id, token_of(job), ending)
    assert first is not None
    assert again == first
    assert await store.result(first) == ending.result


async def test_a_stale_large_result_is_not_written(store: JobStore) -> None:
    stale = await started(store, lease_s=0)
    current = await claimed(store, stale)
    late = an_ending(stale, Event.SUCCEEDED, result="s" * (300 * KIB))
    assert await store.finish(stale.id, token_of(stale), late) is None
    done = await store.finish(
        current.id, token_of(current), an_ending(current, Event.SUCCEEDED, result="good")
    )
    assert done is not None
    assert await store.result(done) == "good"


async def test_a_large_result_without_the_lease_is_refused(store: JobStore) -> None:
    job = await started(store, max_attempts=1)
    await store.finish(job.id, token_of(job), an_ending(job, Event.FAILED))
    late = an_ending(job, Event.SUCCEEDED, result="s" * (300 * KIB))
    assert await store.finish(job.id, "other", late) is None
