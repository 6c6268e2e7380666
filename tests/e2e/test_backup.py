"""A copy of MongoDB's files is a backup: restored, every job in it comes to its end.

The copy is made as docs/backup.md says, while the whole system works and callers submit. Then the
store is lost and the copy takes its place: once with the broker's queues as they were left, and
once with a broker that knows nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.read_concern import ReadConcern

from forebay.jobs import TERMINAL, Event, Job, JobState, OnUnknown
from forebay.local.mongodb import MongoServer
from forebay.local.stack import Stack
from forebay.settings import StoreSettings
from forebay.store.mongo import MongoJobStore, open_store
from forebay.testing.polling import pace, until
from loadtest.providers import Providers
from tests.contract.store.jobs import (
    HOUR,
    a_canceling_job,
    a_job,
    a_waiting_job,
    an_ending,
    inserted,
    now,
    started,
    token_of,
)

from .callers import Callers, calls_by_job
from .conftest import SHORT_LEASES
from .worker_settings import of_workers

SOON_S = 30
"""Longer than the way to the copy, so that nothing has run out before it is made."""
PER_SECOND = 10  # with the bounds below the LLM jobs pile up, a little
LARGE = '{"text": "' + "r" * 1_000_000 + '"}'
SETTINGS = {
    **SHORT_LEASES,
    # Little at once: there is a backlog, in the store and in the queues, when the copy is made.
    **of_workers(CONCURRENCY=4),
    "FOREBAY_RECONCILER_REFILLER_EVERY_S": "1",
    "FOREBAY_RECONCILER_LOST_AFTER_S": "3",
}
ENDS = {
    "has a large result": "succeeded",
    "was canceled": "canceled",
    "is in its last attempt": "failed: attempts_exhausted",
    "must not be repeated": "failed: outcome_unknown",
    "is being canceled": "canceled: canceled",
    "will be too late": "expired: deadline_exceeded",
    "waits for its time": "succeeded",
}
"""How the jobs of `other_states` end after the restore."""
BACKED_UP = {state.value for state in JobState} - {JobState.EXPIRED.value}
"""The states that must be in the copy. One that is expired would be over, like a canceled one."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Backup:
    """A copy of the files, and the jobs in it."""

    files: Path
    jobs: Mapping[str, Document]

    def over(self) -> dict[str, Document]:
        return {i: job for i, job in self.jobs.items() if job["state"] in TERMINAL}


@asynccontextmanager
async def database(url: str) -> AsyncIterator[AsyncMongoClient[Document]]:
    client: AsyncMongoClient[Document] = AsyncMongoClient(url)
    async with client:
        yield client


async def every_job(url: str) -> dict[str, Document]:
    async with database(url) as client:
        return {job["_id"]: job async for job in client.forebay.jobs.find()}


@asynccontextmanager
async def locked(stack: Stack) -> AsyncIterator[None]:
    """Everything is in the files, and nobody writes."""
    async with database(stack.servers.mongodb_url) as client:
        await client.admin.command("fsync", lock=True)
        try:
            yield
        finally:
            await client.admin.command("fsyncUnlock")


@asynccontextmanager
async def at_one_moment(stack: Stack) -> AsyncIterator[None]:
    """What the snapshot of a volume has: the files as they are, and the server not asked."""
    server = stack.servers.mongodb
    assert server is not None
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


PAUSES = {"locked": locked, "at one moment": at_one_moment}


async def take_backup(stack: Stack, files: Path, target: Path, pause: str) -> Backup:
    """Copy, then start a server on the copy to see what is in it."""
    async with PAUSES[pause](stack):
        await asyncio.to_thread(shutil.copytree, files, target / "data")
    async with MongoServer(target) as server:
        return Backup(target / "data", await every_job(server.url))


async def other_states(stack: Stack) -> dict[str, Job]:
    """Jobs in states that calls to the API do not surely leave behind."""
    at = StoreSettings(mongodb_url=SecretStr(stack.servers.mongodb_url))
    async with open_store(at) as store:
        made = await made_by_hand(store)
    return dict(zip(ENDS, made, strict=True))


async def made_by_hand(store: MongoJobStore) -> tuple[Job, ...]:
    """One for each line of `ENDS`."""
    large = await started(store)
    await store.finish(large.id, token_of(large), an_ending(large, Event.SUCCEEDED, result=LARGE))
    canceled = a_job(state=JobState.CANCELED, finished_at=now(), expires_at=now() + HOUR)
    last = await started(store, lease_s=SOON_S, max_attempts=1)
    unrepeatable = await started(store, lease_s=SOON_S, on_unknown=OnUnknown.FAIL)
    soon = timedelta(seconds=SOON_S)
    canceling = a_canceling_job(until=now() + soon)
    late = a_waiting_job(HOUR, deadline=now() + soon)
    waiting = a_waiting_job(soon)
    await inserted(store, canceled, canceling, late, waiting)
    return large, canceled, last, unrepeatable, canceling, late, waiting


async def one_that_fails_and_one_that_retries(stack: Stack) -> None:
    queries = "[simulate status=400]", f"[simulate status=503 times=1 retry_after={SOON_S}]"
    async with aiohttp.ClientSession(stack.ingress_url) as session:
        for query in queries:
            body = {"kind": "search", "lane": "interactive", "input": {"query": query}}
            async with session.post("/v1/jobs", json=body) as answer:
                assert answer.status == 202


async def submit_until(enough: asyncio.Event, callers: Callers) -> None:
    async with asyncio.TaskGroup() as submits:
        async for number in pace(PER_SECOND, 10_000):
            if enough.is_set():
                return
            submits.create_task(callers.submit(number))


async def back_up_under_load(
    stack: Stack, callers: Callers, files: Path, target: Path, pause: str
) -> Backup:
    """The backup, with every state in it; callers submit before, during and after."""
    enough = asyncio.Event()
    submitting = asyncio.create_task(submit_until(enough, callers))
    async with database(stack.servers.mongodb_url) as client:
        # What can be seen but is not in the journal yet may be missing in the copy.
        jobs = client.forebay.get_collection("jobs", read_concern=ReadConcern("majority"))

        async def every_state_is_there() -> bool:
            return set(await jobs.distinct("state")) >= BACKED_UP

        await until(every_state_is_there, SOON_S)
    promised = set(callers.ledger.accepted.values())
    backup = await take_backup(stack, files, target, pause)
    assert promised <= set(backup.jobs), "answered 202 before the backup and not in it"

    async def some_came_later() -> bool:
        return len(after(backup, callers)) >= PER_SECOND

    await until(some_came_later)
    enough.set()
    await submitting
    return backup


def after(backup: Backup, callers: Callers) -> dict[str, str]:
    """The jobs that were accepted when the backup had been made, by their callers' keys."""
    accepted = callers.ledger.accepted.items()
    return {key: job_id for key, job_id in accepted if job_id not in backup.jobs}


async def dead_letters(stack: Stack) -> dict[str, set[str]]:
    """The jobs in the dead queues, by the reason why."""
    found: dict[str, set[str]] = {"unknown_job": set(), "attempts_exhausted": set()}
    ask = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"}
    async with aiohttp.ClientSession() as session:
        for kind in ("search", "crawl", "llm"):
            url = f"{stack.servers.management_url}/api/queues/forebay/forebay.dead.{kind}/get"
            async with session.post(url, json=ask) as answer:
                for letter in await answer.json():
                    properties = letter["properties"]
                    reason = properties["headers"]["x-forebay-reason"]
                    found[reason].add(properties["correlation_id"])
    return found


async def check_restored(
    stack: Stack, callers: Callers, backup: Backup, made: Mapping[str, Job]
) -> None:
    jobs = await asyncio.gather(*(callers.wait(job_id) for job_id in backup.jobs))
    ended = {job["id"]: job for job in jobs}
    assert {name: ending(ended[job.id]) for name, job in made.items()} == ENDS
    by_hand = {job.id for job in made.values()}
    going = set(ended) - set(backup.over()) - by_hand
    unlike = [job for job in jobs if job["id"] in going and job["state"] != "succeeded"]
    assert [(job["error"], backup.jobs[job["id"]]) for job in unlike] == []
    kept = await every_job(stack.servers.mongodb_url)
    assert {job_id: kept[job_id] for job_id in backup.over()} == backup.over()
    result = f"{stack.ingress_url}/v1/jobs/{made['has a large result'].id}/result"
    assert await callers.get(result) == {"text": "r" * 1_000_000}


async def calls_of(jobs: Collection[str], callers: Callers, world: Providers) -> Counter[str]:
    """How often each of these called its provider so far."""
    calls = await calls_by_job(callers, world.providers_url)
    return Counter({job_id: calls[job_id].total() for job_id in jobs if job_id in calls})


def ending(job: Mapping[str, Any]) -> str:
    return f"{job['state']}: {job['error']['code']}" if job["error"] else str(job["state"])


async def check_lost(callers: Callers, lost: Mapping[str, str]) -> None:
    """What came after the backup is not there, and its callers may submit it again."""

    async def check(key: str, job_id: str) -> None:
        with pytest.raises(AssertionError, match="is not there"):
            await callers.wait(job_id)
        again = await callers.submit(int(key.rpartition("-")[2]))
        assert again != job_id
        assert (await callers.wait(again))["state"] == "succeeded"

    await asyncio.gather(*(check(key, job_id) for key, job_id in lost.items()))


def settings(world: Providers) -> dict[str, str]:
    """One outside world for the system before and the one after: jobs name addresses in it."""
    return {
        **SETTINGS,
        "FOREBAY_SEARCH_SEARXNG_URL": f"{world.providers_url}/searxng",
        "FOREBAY_LLM_OPENAI_BASE_URL": f"{world.providers_url}/openai/v1",
        "FOREBAY_CRAWLER_ALLOW_HOSTS": world.site_url.removeprefix("http://"),
    }


@asynccontextmanager
async def system(
    directory: Path, data: Path, world: Providers
) -> AsyncIterator[tuple[Stack, Callers]]:
    async with (
        Stack(directory, env=settings(world), data=data) as stack,
        Callers(stack.ingress_url, world.site_url, directory / "ledger.jsonl") as callers,
    ):
        yield stack, callers


@pytest.fixture
async def world() -> AsyncIterator[Providers]:
    async with Providers(profile="demo", seed=1) as world:
        yield world


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("machine_servers")
@pytest.mark.parametrize(
    ("pause", "queues"), [("locked", "as they were left"), ("at one moment", "gone")]
)
async def test_every_job_of_a_restored_backup_comes_to_its_end(
    tmp_path: Path, world: Providers, pause: str, queues: str
) -> None:
    data = tmp_path / "data"
    files = data / "mongodb" / "data"
    async with system(tmp_path / "before", data, world) as (stack, callers):
        made = await other_states(stack)
        await one_that_fails_and_one_that_retries(stack)
        backup = await back_up_under_load(stack, callers, files, tmp_path / "backup", pause)
        lost = after(backup, callers)
        calls = await calls_of(backup.over(), callers, world)
        assert stack.servers.mongodb is not None
        await stack.servers.mongodb.kill()
    shutil.rmtree(files)
    backup.files.rename(files)
    if queues == "gone":
        shutil.rmtree(data / "rabbitmq")
    async with system(tmp_path / "after", data, world) as (stack, callers):
        await check_restored(stack, callers, backup, made)
        assert await calls_of(backup.over(), callers, world) == calls
        dead = await dead_letters(stack)
        # A message was there, and no record.
        assert dead["unknown_job"] <= set(lost.values())
        assert bool(dead["unknown_job"]) == (queues == "as they were left")
        assert dead["attempts_exhausted"] == {made["is in its last attempt"].id}
        await check_lost(callers, lost)
