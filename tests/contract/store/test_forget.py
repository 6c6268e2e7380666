"""A terminal job that its caller wants removed."""

from __future__ import annotations

import pytest

from forebay.errors import IllegalTransition
from forebay.jobs import Event, Idempotency
from forebay.store import Inserted, JobRef, JobStore, Refusal, Refused
from forebay.store.results import INLINE_BYTES
from tests.contract.store.jobs import a_job, an_ending, inserted, started, stored, token_of

LARGE = f'"{"x" * INLINE_BYTES}"'


@pytest.mark.parametrize("result", ['"small"', LARGE], ids=["small", "large"])
async def test_a_forgotten_job_is_gone_with_its_result_and_its_key(
    store: JobStore, result: str
) -> None:
    key = Idempotency("key", "f")
    job = await started(store, idempotency=key)
    ended = await store.finish(
        job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result=result)
    )
    assert ended is not None
    assert await store.forget("default", job.id)
    assert await store.get("default", job.id) is None
    assert await store.find_by_key("default", "key") is None
    assert await store.claim(JobRef.of(job), "worker-1", 60) == Refused(Refusal.UNKNOWN)
    if ended.result_ref is not None:
        assert await store.result(ended) is None
    assert await store.insert([a_job(idempotency=key)]) == [Inserted()]
    assert not await store.forget("default", job.id)


async def test_a_job_that_is_not_done_is_not_forgotten(store: JobStore) -> None:
    waiting, running = a_job(), await started(store)
    await inserted(store, waiting)
    for job in (waiting, running):
        with pytest.raises(IllegalTransition):
            await store.forget("default", job.id)
        assert (await stored(store, job)).id == job.id


async def test_nobody_forgets_the_job_of_another_tenant(store: JobStore) -> None:
    job = a_job()
    await inserted(store, job)
    await store.cancel("default", job.id)
    assert not await store.forget("other", job.id)
    assert (await stored(store, job)).done
