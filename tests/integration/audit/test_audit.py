"""`forebay audit` as a process, on jobs in a real MongoDB."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from forebay.audit.ledger import LedgerWriter
from forebay.jobs import Event, Job
from forebay.settings import StoreSettings
from forebay.store.mongo import MongoJobStore, open_store
from tests.command import Ended, begin, ended, forebay
from tests.contract.store.jobs import an_ending, started, token_of

pytestmark = pytest.mark.timeout(180)  # a dozen processes one after another
JOBS = 25


@dataclass(frozen=True)
class Scene:
    """A store with finished jobs, and the ledger that promised them."""

    store: MongoJobStore
    raw: Any
    settings: dict[str, str]
    ledger: Path
    calls: Path
    jobs: list[Job]

    async def audit(self, *words: str) -> Ended:
        return await forebay("audit", str(self.ledger), *words, **self.settings)


@asynccontextmanager
async def opened(url: str, database: str) -> AsyncIterator[tuple[MongoJobStore, Any]]:
    settings = StoreSettings(mongodb_url=SecretStr(url), mongodb_database=database)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    async with client, open_store(settings) as store:
        await store.prepare()
        yield store, client[database]
        await client.drop_database(database)


async def finished(store: MongoJobStore) -> Job:
    job = await started(store)
    ended = await store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED))
    assert ended is not None
    return ended


@pytest.fixture
async def scene(mongodb_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    database = f"audit_{uuid.uuid4().hex[:8]}"
    ledger, calls = tmp_path / "ledger.jsonl", tmp_path / "calls.jsonl"
    async with opened(mongodb_url, database) as (store, raw):
        jobs = [await finished(store) for _ in range(JOBS)]
        with LedgerWriter(ledger) as answers:
            for job in jobs:
                answers.note("POST", "/v1/search", 202, job_id=job.id, key=f"key-{job.id}")
        said = [
            {"job_id": job.id, "attempt": 1, "kind": "search", "path": "/search"} for job in jobs
        ]
        calls.write_text("".join(json.dumps(one) + "\n" for one in said))
        settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database}
        yield Scene(store, raw, settings, ledger, calls, jobs)


async def test_an_audit_of_what_was_kept_ends_with_0(scene: Scene) -> None:
    audit = await scene.audit("--calls", str(scene.calls))
    assert audit.code == 0, audit
    assert "Everything that was promised was kept." in audit.out
    assert f"{JOBS} succeeded" in audit.out
    assert audit.err == ""


async def test_a_job_deleted_by_hand_is_named_as_lost_and_the_audit_ends_with_1(
    scene: Scene,
) -> None:
    victim = scene.jobs[7].id
    assert (await scene.raw.jobs.delete_one({"_id": victim})).deleted_count == 1
    audit = await scene.audit("--calls", str(scene.calls))
    assert audit.code == 1, audit
    assert "Not kept: lost: 1." in audit.out
    assert f"  {victim}: accepted at " in audit.out
    said = json.loads((await scene.audit("--json")).out)
    assert (said["held"], said["accepted"], said["terminal"]) == (False, JOBS, JOBS - 1)
    assert [lost["name"] for lost in said["broken"]["lost"]] == [victim]
    assert "called_twice" not in said["broken"]


async def test_at_most_twenty_are_named_and_the_rest_is_counted(scene: Scene) -> None:
    await scene.raw.jobs.delete_many({})
    audit = await scene.audit()
    assert audit.code == 1
    assert f"lost: {JOBS}" in audit.out
    assert "and 5 more" in audit.out
    assert "is FOREBAY_MONGODB_DATABASE the right one?" in audit.err
    assert sum(job.id in audit.out for job in scene.jobs) == 20


async def test_a_result_that_was_taken_away_is_seen(scene: Scene) -> None:
    await scene.raw.jobs.update_one({"_id": scene.jobs[0].id}, {"$unset": {"result": 1}})
    said = json.loads((await scene.audit("--json")).out)
    assert [one["name"] for one in said["broken"]["success_without_result"]] == [scene.jobs[0].id]


async def test_an_open_job_is_waited_for_and_then_counted(scene: Scene) -> None:
    job = await started(scene.store)
    with LedgerWriter(scene.ledger) as ledger:
        ledger.note("POST", "/v1/jobs", 202, job_id=job.id)
    at_once = await scene.audit()
    assert (at_once.code, "still open: 1" in at_once.out) == (1, True)
    waiting = await begin("audit", str(scene.ledger), "--wait", "50", **scene.settings)
    await scene.store.finish(job.id, token_of(job), an_ending(job, Event.SUCCEEDED))
    async with asyncio.timeout(40):
        audit = await ended(waiting)
    assert audit.code == 0, audit


async def test_a_ledger_that_is_broken_off_ends_with_2(scene: Scene) -> None:
    whole = scene.ledger.read_text()
    scene.ledger.write_text(whole[:-20])
    audit = await scene.audit()
    assert audit.code == 2
    assert f"{scene.ledger}, line {JOBS + 1}: it is not JSON" in audit.err


async def test_a_ledger_that_promises_nothing_ends_with_2(scene: Scene) -> None:
    scene.ledger.write_text(scene.ledger.read_text().partition("\n")[0] + "\n")
    audit = await scene.audit()
    assert audit.code == 2
    assert f"{scene.ledger} has no accepted job: there is nothing to judge" in audit.err


async def test_a_ledger_can_come_on_the_standard_input(scene: Scene) -> None:
    with scene.ledger.open("rb") as whole:
        asked = await begin("audit", "/dev/stdin", stdin=whole, **scene.settings)
    audit = await ended(asked)
    assert audit.code == 0, audit


async def test_without_the_stores_address_it_ends_with_2(scene: Scene) -> None:
    audit = await forebay("audit", str(scene.ledger))
    assert audit.code == 2
    assert "FOREBAY_MONGODB_URL is not set" in audit.err


async def test_a_store_that_is_not_there_ends_with_3(scene: Scene) -> None:
    away = {"MONGODB_URL": "mongodb://127.0.0.1:1/?replicaSet=rs", "MONGODB_TIMEOUT_S": "0.5"}
    audit = await forebay("audit", str(scene.ledger), **away)
    assert audit.code == 3
    assert audit.err.startswith("forebay: nothing was judged: MongoDB")
