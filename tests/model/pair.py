"""Two stores that are told the same, and must say and hold the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from pymongo import AsyncMongoClient

from forebay.errors import IllegalTransition
from forebay.jobs import Job
from forebay.settings import StoreSettings
from forebay.store import Claimed, JobRef, JobStore, Refused
from forebay.store.indexes import JOBS, RESULTS
from forebay.store.memory import MemoryJobStore
from forebay.store.mongo import open_store
from forebay.store.results import CHUNK_BYTES

NEVER_SAME = timedelta(milliseconds=1)


@dataclass
class Both:
    """What the two said."""

    memory: Any
    mongo: Any


class Clock:
    """The memory store's: now, and never the same twice."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> datetime:
        self._last = max(datetime.now(UTC), self._last + NEVER_SAME)
        return self._last


class Pair:
    """The store on a real MongoDB and the store in memory."""

    def __init__(self, mongo: JobStore, database: Any) -> None:
        self.memory: JobStore = MemoryJobStore(Clock())
        self.mongo = mongo
        self._database = database

    async def empty(self) -> None:
        """Begin anew."""
        self.memory = MemoryJobStore(Clock())
        for name in (JOBS, RESULTS):
            await self._database[name].delete_many({})

    async def ask(self, operation: Callable[[JobStore], Any]) -> Both:
        """Do it with both; raises `AssertionError` when their answers differ."""
        both = Both(await _answer(operation, self.memory), await _answer(operation, self.mongo))
        assert plain(both.memory) == plain(both.mongo)
        return both

    async def jobs(self, ids: list[str]) -> dict[str, tuple[Job, Job]]:
        """Every job in both; raises `AssertionError` when they differ."""
        memory = {job.id: job for job in await self.memory.look_up(ids)}
        mongo = {job.id: job for job in await self.mongo.look_up(ids)}
        assert memory.keys() == mongo.keys()
        for job_id, job in memory.items():
            assert plain(job) == plain(mongo[job_id])
        return {job_id: (memory[job_id], mongo[job_id]) for job_id in memory}


@asynccontextmanager
async def open_pair(url: str, database: str) -> AsyncIterator[Pair]:
    """Both stores, in a database of their own."""
    settings = StoreSettings(
        mongodb_url=SecretStr(url), mongodb_database=database, mongodb_timeout_s=30
    )
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    async with client, open_store(settings) as mongo:
        await mongo.prepare()
        try:
            yield Pair(mongo, client[database])
        finally:
            await client.drop_database(database)


async def _answer(operation: Callable[[JobStore], Any], store: JobStore) -> Any:
    try:
        return await operation(store)
    except IllegalTransition as refused:
        return refused


def plain(said: Any) -> Any:
    """An answer without what may differ: moments, and the words of an exception."""
    match said:
        case Job():
            return _plain_job(said)
        case JobRef():
            return (said.id, said.generation, said.kind, said.lane, said.attempts)
        case Claimed():
            return _plain_job(said.job)
        case Refused():
            return (said.reason, said.dead_lettered, said.error)
        case IllegalTransition():
            return "illegal transition"
        case list() | tuple():
            return [plain(one) for one in said]
        case _:
            return said


def _plain_job(job: Job) -> dict[str, Any]:
    # What is set here has passed or comes in an hour, give or take how far the clocks are apart.
    now = datetime.now(UTC) + timedelta(minutes=1)
    ref = job.result_ref
    return {
        "id": job.id,
        "state": job.state,
        "generation": job.generation,
        "attempts": job.attempts,
        "lease": job.lease and (job.lease.token, job.lease.worker, job.lease.until > now),
        "waits": job.not_before and job.not_before > now,
        "published": job.published_at is not None,
        "dead_lettered": job.dead_lettered,
        "result": job.result,
        "result_ref": ref and (ref.token, ref.chunks, ref.bytes <= CHUNK_BYTES),
        "error": job.error,
        "usage": job.usage,
        "history": [(a.n, a.generation, a.outcome, a.worker) for a in job.history],
        "set": [
            name
            for name in ("queued_at", "started_at", "finished_at", "expires_at", "start_by")
            if getattr(job, name) is not None
        ],
    }
