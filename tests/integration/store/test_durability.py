from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from forebay.errors import ConfigurationError, StoreUnfit
from forebay.jobs import Event
from forebay.store.client import connect
from forebay.store.fitness import PROOFS
from forebay.store.indexes import INDEXES, JOBS, RESULTS
from forebay.store.mongo import MongoJobStore, open_store
from forebay.store.results import OUTLIVES_JOB
from tests.contract.store.jobs import (
    HOUR,
    a_job,
    a_waiting_job,
    an_ending,
    claimed,
    inserted,
    now,
    started,
    token_of,
)
from tests.integration.store.conftest import settings_for


async def test_a_standalone_server_is_refused_and_told_why(
    standalone_url: str, driver: str
) -> None:
    async with open_store(settings_for(standalone_url, driver)) as store:
        with pytest.raises(StoreUnfit, match=r"standalone.*--replSet"):
            await store.prepare()


@pytest.mark.parametrize(
    "weakened",
    [
        "w=0",
        "w=1&journal=false",
        "readPreference=secondaryPreferred",
        "readConcernLevel=local",
        "retryWrites=false",
    ],
)
async def test_no_url_weakens_the_promise(driver: str, weakened: str) -> None:
    connection = connect(settings_for(f"mongodb://127.0.0.1:9/?{weakened}", driver))
    try:
        jobs = connection.collection(JOBS)
        assert jobs.write_concern.document == {"w": "majority", "j": True}
        assert jobs.read_concern.level == "majority"
        assert jobs.read_preference.name == "Primary"
        assert connection.client.options.retry_writes
    finally:
        await connection.close()


@pytest.mark.parametrize("url", ["http://user:canary@host/", "mongodb://user:canary@/?w=x&w"])
def test_a_bad_url_is_a_bad_setting_and_its_password_stays_secret(url: str, driver: str) -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_MONGODB_URL") as refused:
        connect(settings_for(url, driver))
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_the_proof_leaves_nothing_behind(store: MongoJobStore, raw: Any) -> None:
    await store.prepare()
    assert await raw[PROOFS].count_documents({}) == 0


@pytest.mark.usefixtures("store")
async def test_every_index_is_there_as_it_is_written(raw: Any) -> None:
    for collection in (JOBS, RESULTS):
        there = await raw[collection].index_information()
        wanted = {index.name: index for index in INDEXES if index.collection == collection}
        assert set(there) == {"_id_", *wanted}
        for name, index in wanted.items():
            assert tuple(there[name]["key"]) == index.keys
            for option, value in index.options.items():
                assert there[name][option] == value


async def test_large_results_go_with_their_job_and_not_before(
    store: MongoJobStore, raw: Any
) -> None:
    job = await started(store, result_ttl_s=60)
    done = await store.finish(
        job.id, token_of(job), an_ending(job, Event.SUCCEEDED, result="r" * 5_000_000)
    )
    assert done is not None
    assert done.expires_at is not None
    chunks = await raw[RESULTS].find({"job": job.id}).to_list(None)
    assert len(chunks) == 5
    for chunk in chunks:
        later_by = chunk["expires_at"] - done.expires_at
        assert OUTLIVES_JOB - timedelta(minutes=1) < later_by <= OUTLIVES_JOB


async def test_a_lost_lease_leaves_no_chunks(store: MongoJobStore, raw: Any) -> None:
    stale = await started(store, lease_s=0)
    await claimed(store, stale)
    late = an_ending(stale, Event.SUCCEEDED, result="s" * 300_000)
    assert await store.finish(stale.id, token_of(stale), late) is None
    assert await raw[RESULTS].count_documents({"job": stale.id}) == 0


async def test_a_lease_lost_while_the_chunks_were_written_leaves_none(
    store: MongoJobStore, raw: Any
) -> None:
    job = await started(store, lease_s=0)
    ending = an_ending(job, Event.SUCCEEDED, result="s" * 30_000_000)
    async with await raw[RESULTS].watch() as written:
        finishing = asyncio.create_task(store.finish(job.id, token_of(job), ending))
        await written.next()
    again = await claimed(store, job)
    assert await finishing is None
    assert await raw[RESULTS].count_documents({"job": job.id}) == 0
    assert (await store.get(again.tenant, again.id)) == again


async def test_a_process_a_day_ahead_frees_nothing(
    store: MongoJobStore, mongodb_url: str, raw: Any
) -> None:
    await raw[JOBS].delete_many({})
    held = await started(store, lease_s=600)
    await inserted(store, a_waiting_job(HOUR), a_job(deadline=now() + HOUR))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("skewed_worker.py")),
        mongodb_url,
        held.id,
        env={"PYTHONPATH": "services", "FOREBAY_MONGODB_DATABASE": raw.name},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said.decode() == "86400 Refused(reason=<Refusal.BUSY: 'busy'>) [] [] 0"
    assert await store.get("default", held.id) == held
