"""What can be asked of jobs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Unpack, overload
from uuid import uuid4

from forebay.client.connection import Ask, Connection, path_to
from forebay.client.errors import Conflict, JobFailed, NotDone, NotFound
from forebay.client.events import JobStream
from forebay.client.submissions import (
    CrawlOptions,
    JobFilter,
    Json,
    LlmOptions,
    ReplayFilter,
    SearchOptions,
    SubmitOptions,
    listed,
    parted,
    query_of,
    submission,
    text_of,
)
from forebay.client.views import Batch, Job, Page, ReplayPreview
from forebay.client.webhook_views import WebhookDelivery, WebhookEndpoint
from forebay.jobs import JobKind
from forebay.requests import JobInput

LONG_POLL_S = 20.0
"""One look of a wait: proxies commonly end an answer that takes half a minute."""
EARLY_S = 0.2
"""Before the next look after one that ended early."""
JSON = {"Content-Type": "application/json"}


def new_key() -> dict[str, str]:
    """The header of a key that nobody else has."""
    return key_header(f"client-{uuid4().hex}")


def key_header(key: str) -> dict[str, str]:
    """The header of an Idempotency-Key."""
    return {"Idempotency-Key": key}


def id_of(thing: Job | Batch | WebhookEndpoint | WebhookDelivery | str) -> str:
    """The id of what is named by it, or seen."""
    return thing if isinstance(thing, str) else thing.id


class JobCalls:
    """The part of the client about jobs; every call raises `ClientError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @overload
    async def submit(self, work: JobInput, /, **options: Unpack[SubmitOptions]) -> Job: ...
    @overload
    async def submit(self, work: str, fields: Json, /, **options: Unpack[SubmitOptions]) -> Job: ...
    async def submit(
        self, work: JobInput | str, fields: Json | None = None, /, **options: Any
    ) -> Job:
        """The accepted job: `submit(SearchRequest(query="weir"), lane="bulk")`.

        Or by the name of its kind: `submit("search", {"query": "weir"})`.
        """
        sent = {name: options.pop(name) for name in ("idempotency_key", "wait_s") & options.keys()}
        return await self._submit(submission(work, fields, options), **sent)

    async def search(self, query: str, /, **options: Unpack[SearchOptions]) -> Job:
        """Submit a search."""
        return await self._shortcut(JobKind.SEARCH, {"query": query}, options)

    async def crawl(self, url: str, /, **options: Unpack[CrawlOptions]) -> Job:
        """Submit a page to fetch and read."""
        return await self._shortcut(JobKind.CRAWL, {"url": url}, options)

    async def llm(
        self, model: str, messages: str | Sequence[Json], /, **options: Unpack[LlmOptions]
    ) -> Job:
        """Submit a conversation to complete; a text alone is what the user says."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return await self._shortcut(JobKind.LLM, {"model": model, "messages": messages}, options)

    async def get(self, job: Job | str, *, wait_s: float = 0, attempts: bool = False) -> Job:
        """The job as it is now, or when it is done within `wait_s` seconds (60 at most).

        With `attempts` its `history` is there too.
        """
        query = {"wait": f"{wait_s:g}"} if wait_s else {}
        if attempts:
            query["include"] = "attempts"
        ask = Ask("GET", path_to("jobs", id_of(job)), query, read_s=wait_s)
        return await self._connection.view(ask, Job)

    async def wait(self, job: Job | str, timeout_s: float | None = None) -> Job:
        """The job when it is done, well or badly; raises `NotDone` after `timeout_s` seconds.

        An ingress that restarts meanwhile is waited for, as long as the client's patience is.
        """
        clock = asyncio.get_running_loop().time
        ends = float("inf") if timeout_s is None else clock() + timeout_s
        seen = job if isinstance(job, Job) else None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    looks_until = clock() + min(LONG_POLL_S, max(ends - clock(), 0))
                    seen = await self.get(job, wait_s=looks_until - clock())
                    if seen.done:
                        return seen
                    if clock() < looks_until:  # an ingress that stops answers early
                        await asyncio.sleep(EARLY_S)
                    if clock() >= ends:
                        break
        raise NotDone(f"{id_of(job)} was not done within {timeout_s} s", seen)

    async def result(self, job: Job | str, timeout_s: float | None = None) -> Any:
        """Wait for the result; raises `JobFailed` for a job that has none, and what `wait` does."""
        ended = await self.wait(job, timeout_s)
        if not ended.succeeded:
            raise JobFailed(ended)
        if ended.result is not None:
            return ended.result
        # It is kept no longer: the answer says so.
        return (await self._connection.ask(Ask("GET", path_to("jobs", ended.id, "result")))).json()

    def stream(self, job: Job | str) -> JobStream:
        """What happens to the job, as it happens; ends with it."""
        return JobStream(self._connection, path_to("jobs", id_of(job), "events"))

    async def cancel(self, job: Job | str) -> Job:
        """Stop it: done if it waited, `canceling` if it runs, unchanged if it was done before."""
        ask = Ask("POST", path_to("jobs", id_of(job), "cancel"))
        return await self._connection.view(ask, Job)

    async def retry(self, job: Job | str) -> Job:
        """Run a job again that is done, under its id; raises `Conflict` if it is not.

        Of a job that was seen before, only if nobody ran it again since then.
        """
        seen = job if isinstance(job, Job) else await self.get(job)
        path, query = path_to("jobs", seen.id, "retry"), {"generation": str(seen.generation)}
        try:
            return await self._connection.view(Ask("POST", path, query), Job)
        except Conflict as refused:
            if not refused.repeated or refused.code != "other_generation":
                raise
            # The answer to the first try was lost, and it runs again, as was wished.
            return await self.get(seen)

    async def delete(self, job: Job | str) -> None:
        """Forget a job that is done, with its input and its result."""
        try:
            await self._connection.ask(Ask("DELETE", path_to("jobs", id_of(job))))
        except NotFound as gone:
            if not gone.repeated:
                raise

    async def list(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[JobFilter]
    ) -> Page:
        """One page of jobs, the newest first if not asked otherwise; 200 at most."""
        query = query_of(filters) | {"limit": [str(limit)]}
        if cursor is not None:
            query["cursor"] = [cursor]
        return await self._connection.view(Ask("GET", "/v1/jobs", query), Page)

    async def iterate(self, **filters: Unpack[JobFilter]) -> AsyncIterator[Job]:
        """Every job that the filter names, page after page."""
        cursor: str | None = None
        while True:
            page = await self.list(limit=200, cursor=cursor, **filters)
            for job in page.data:
                yield job
            if (cursor := page.next_cursor) is None:
                return

    @overload
    async def replay(
        self, *, dry_run: Literal[True], limit: int = ..., **filters: Unpack[ReplayFilter]
    ) -> ReplayPreview: ...
    @overload
    async def replay(
        self, *, dry_run: Literal[False] = ..., limit: int = ..., **filters: Unpack[ReplayFilter]
    ) -> Batch: ...
    async def replay(
        self, *, dry_run: bool = False, limit: int | None = None, **filters: Any
    ) -> Batch | ReplayPreview:
        """Run again what failed and the filter names, as a batch; with `dry_run` only say what."""
        bound = {} if limit is None else {"limit": limit}
        body = text_of({**listed(filters), **bound, "dry_run": dry_run})
        ask = Ask("POST", "/v1/jobs/replay", body=body, headers=JSON | new_key(), read_s=60)
        if dry_run:
            return await self._connection.view(ask, ReplayPreview)
        return await self._connection.view(ask, Batch)

    async def _shortcut(self, kind: JobKind, first: Json, options: Mapping[str, Any]) -> Job:
        fields, others = parted(kind, options)
        return await self.submit(kind.value, {**first, **fields}, **others)

    async def _submit(
        self, body: Json, idempotency_key: str | None = None, wait_s: float = 0
    ) -> Job:
        headers = JSON | (key_header(idempotency_key) if idempotency_key else new_key())
        if wait_s:
            headers["Prefer"] = f"wait={math.ceil(wait_s)}"
        ask = Ask("POST", "/v1/jobs", body=text_of(body), headers=headers, read_s=wait_s)
        return await self._connection.view(ask, Job)
