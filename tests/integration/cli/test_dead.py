"""`forebay dead ...` as a process, on a real ingress and a real MongoDB."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from forebay.errors import JobError, attempts_exhausted
from forebay.jobs import Event, Job, JobKind, JobState
from forebay.store.mongo import MongoJobStore
from tests.command import Ended, forebay
from tests.contract.store.jobs import (
    PASSING,
    an_attempt,
    an_ending,
    claimed,
    started,
    stored,
    token_of,
)
from tests.ingress_process import NOBODY, IngressProcess, free_port, serving
from tests.integration.audit.test_audit import opened

pytestmark = pytest.mark.timeout(180)  # a dozen processes one after another
UNKNOWN = "job_" + "0" * 32


@dataclass(frozen=True)
class Scene:
    store: MongoJobStore
    ingress: IngressProcess

    async def dead(self, *words: str) -> Ended:
        return await forebay("dead", *words, URL=self.ingress.url)

    async def a_dead_job(self, kind: JobKind = JobKind.SEARCH, said: str = "it is down") -> Job:
        """Failed in its second and last attempt, as a worker leaves it."""
        job = await started(self.store, kind=kind, max_attempts=2, input='{"query": "x"}')
        retry = an_ending(job, Event.RETRY_LATER, error=PASSING)
        await self.store.finish(job.id, token_of(job), retry)
        await self.store.queue_due(10)
        cause = JobError(PASSING.code, said, retryable=True)
        return await self._failed(job, attempts_exhausted(2, said), cause)

    async def _failed(self, job: Job, error: JobError, cause: JobError) -> Job:
        running = await claimed(self.store, await stored(self.store, job))
        attempt = an_attempt(running, "failed", provider="searxng", error=cause)
        end = an_ending(running, Event.FAILED, attempt=attempt, error=error, dead_lettered=True)
        ended = await self.store.finish(job.id, token_of(running), end)
        assert ended is not None
        return ended

    async def state(self, job: Job) -> tuple[JobState, int]:
        now = await stored(self.store, job)
        return now.state, now.generation


@asynccontextmanager
async def before_each_replay(
    scene: Scene, act: Callable[[], Awaitable[None]]
) -> AsyncIterator[str]:
    """The address of the ingress for a caller who is always a little late with a replay."""

    async def forward(request: web.Request) -> web.Response:
        if request.method == "POST":
            await act()
        url = f"{scene.ingress.url}{request.path_qs}"
        async with aiohttp.request(request.method, url) as answer:
            body = await answer.read()
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
async def shared(mongodb_url: str) -> AsyncIterator[tuple[Scene, Any]]:
    """One ingress for all tests here: to start one is most of the time they take."""
    database = f"cli_{uuid.uuid4().hex[:8]}"
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    async with (
        aiohttp.ClientSession() as session,
        opened(mongodb_url, database) as (store, raw),
        serving(session, **settings) as ingress,
    ):
        yield Scene(store, ingress), raw


@pytest.fixture
async def scene(shared: tuple[Scene, Any]) -> Scene:
    """The same with no job left of the test before."""
    here, raw = shared
    await raw.jobs.delete_many({})
    return here


async def test_a_dead_job_is_shown_with_its_error_and_with_what_its_last_attempt_met(
    scene: Scene,
) -> None:
    said = "searxng answered 503: [a failure] on its side, and a sentence that is quite long."
    job = await scene.a_dead_job(said=said)
    await started(scene.store)
    shown = await scene.dead("list")
    assert shown.code == 0, shown
    lines = shown.out.splitlines()
    assert lines[0].startswith(f"{job.id}  search  2 of 2 attempts  failed 20")
    assert lines[1] == f"    attempts_exhausted: No attempt of 2 succeeded; the last: {said}"
    assert lines[2] == f"    attempt 2: failed by searxng, provider_error: {said}"
    assert lines[3:] == ["1 job"]


async def test_programs_get_the_jobs_as_the_api_shows_them(scene: Scene) -> None:
    job = await scene.a_dead_job()
    (shown,) = json.loads((await scene.dead("list", "--json")).out)
    assert (shown["id"], shown["error"]["code"]) == (job.id, "attempts_exhausted")
    assert [attempt["n"] for attempt in shown["history"]] == [1, 2]


async def test_a_list_is_of_one_kind_and_of_as_many_as_wanted(scene: Scene) -> None:
    jobs = [await scene.a_dead_job() for _ in range(3)]
    other = await scene.a_dead_job(JobKind.LLM)

    async def listed(*words: str) -> list[str]:
        return [job["id"] for job in json.loads((await scene.dead("list", "--json", *words)).out)]

    assert await listed("--kind", "llm") == [other.id]
    assert await listed("--kind", "crawl") == []
    assert await listed("--limit", "2") == [other.id, jobs[2].id]
    assert "2 jobs, maybe more" in (await scene.dead("list", "--limit", "2")).out


async def test_jobs_named_by_their_ids_run_again_and_each_is_said(scene: Scene) -> None:
    job, running = await scene.a_dead_job(), await started(scene.store)
    done = await started(scene.store)
    await scene.store.finish(done.id, token_of(done), an_ending(done, Event.SUCCEEDED))
    replayed = await scene.dead("replay", job.id, UNKNOWN, running.id, done.id, "../jobs")
    assert replayed.code == 1
    assert replayed.out.splitlines() == [
        f"{job.id}  queued",
        f"{UNKNOWN}  not found",
        f"{running.id}  not terminal",
        f"{done.id}  left alone: it has succeeded, and running it again would lose its result",
        "../jobs  not found",
        "1 queued, 2 not found, 1 not terminal, 1 left alone",
    ]
    assert await scene.state(job) == (JobState.QUEUED, 2)
    assert await scene.state(running) == (JobState.RUNNING, 1)
    assert await scene.state(done) == (JobState.SUCCEEDED, 1)


async def test_all_of_a_kind_run_again(scene: Scene) -> None:
    jobs = [await scene.a_dead_job() for _ in range(3)]
    other = await scene.a_dead_job(JobKind.LLM)
    replayed = await scene.dead("replay", "--all", "--kind", "search")
    assert replayed.code == 0, replayed
    assert replayed.out.splitlines()[-1] == "3 queued"
    assert {await scene.state(job) for job in jobs} == {(JobState.QUEUED, 2)}
    assert await scene.state(other) == (JobState.FAILED, 1)
    assert "1 queued" in (await scene.dead("replay", "--all")).out
    assert "nothing to replay" in (await scene.dead("replay", "--all")).out


async def test_a_page_that_shrinks_meanwhile_leaves_none_out(
    scene: Scene,
) -> None:
    first = await scene.a_dead_job()
    copies = [first.evolve(id=f"job_{n:032x}") for n in range(250)]
    await scene.store.insert(copies)
    replayed = await scene.dead("replay", "--all")
    assert replayed.code == 0, replayed
    assert replayed.out.splitlines()[-1] == "251 queued"


@pytest.mark.parametrize("by", ["id", "all"])
@pytest.mark.parametrize("end", [None, Event.SUCCEEDED, Event.FAILED])
async def test_what_another_operator_ran_again_meanwhile_is_left_alone(
    scene: Scene, by: str, end: Event | None
) -> None:
    job = await scene.a_dead_job()

    async def another_operator() -> None:
        again = await scene.store.retry(job.tenant, job.id)
        assert again is not None
        if end is not None:
            running = await claimed(scene.store, again)
            error = None if end is Event.SUCCEEDED else PASSING
            ending = an_ending(running, end, error=error, dead_lettered=error is not None)
            await scene.store.finish(job.id, token_of(running), ending)

    async with before_each_replay(scene, another_operator) as url:
        words = [job.id] if by == "id" else ["--all"]
        replayed = await forebay("dead", "replay", *words, URL=url)
    assert replayed.code == 1, replayed
    assert replayed.out.splitlines() == [
        f"{job.id}  already run again: somebody else did so meanwhile",
        "1 already run again",
    ]
    state = end.value if end is not None else "queued"
    assert await scene.state(job) == (JobState(state), 2)


@pytest.mark.parametrize("by", ["id", "all"])
async def test_a_dry_run_says_it_and_changes_nothing(scene: Scene, by: str) -> None:
    job = await scene.a_dead_job()
    replayed = await scene.dead("replay", "--dry-run", job.id if by == "id" else "--all")
    assert replayed.code == 0, replayed
    assert replayed.out.splitlines() == [f"{job.id}  queued", "Would be: 1 queued"]
    assert await scene.state(job) == (JobState.FAILED, 1)


@pytest.mark.parametrize(
    "words", [[], ["--all", UNKNOWN], [UNKNOWN, "--kind", "llm"], ["--all", "--kind", "mail"]]
)
async def test_a_replay_that_makes_no_sense_ends_with_2(words: list[str]) -> None:
    assert (await forebay("dead", "replay", *words)).code == 2


@pytest.mark.parametrize("words", [["list"], ["replay", "--all"], ["replay", UNKNOWN]])
async def test_an_ingress_that_is_not_there_ends_with_1_and_says_where_it_was_sought(
    words: list[str],
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = await forebay("dead", *words, URL=url, URL_PATIENCE_S="0")
    assert told.code == 1
    assert told.err == (
        f"forebay: {url} does not answer (ConnectError); FOREBAY_URL is where the ingress is\n"
    )


async def test_an_address_that_is_none_ends_with_2() -> None:
    told = await forebay("dead", "list", URL="forebay:8080")
    assert told.code == 2
    assert "FOREBAY_URL makes no sense" in told.err


@pytest.mark.parametrize("words", [["list"], ["replay", "--all"], ["replay", UNKNOWN]])
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
async def test_another_server_at_the_address_is_told(words: list[str], status: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"status":"ok"}'
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)))
        writer.write(body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        told = await forebay("dead", *words, URL=f"http://127.0.0.1:{port}")
    assert told.code == 1
    assert f"was answered {status[:3]}: this is not the API of an ingress" in told.err


@pytest.mark.parametrize(
    "told", [{"URL": "http://127.0.0.1:1/docs"}, {"URL_TIMEOUT_S": "0"}, {"URL_TIMEOUT_S": "-3"}]
)
async def test_a_setting_that_makes_no_sense_ends_with_2(told: dict[str, str]) -> None:
    said = await forebay("dead", "list", **told)
    assert said.code == 2
    assert f"FOREBAY_{next(iter(told))} makes no sense" in said.err
