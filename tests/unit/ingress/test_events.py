"""`GET /v1/jobs/{id}/events` over the real application: what one caller hears, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job
from forebay.keys import Quota, Role
from forebay.progress import Ask, Moved, Output
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.results import INLINE_BYTES
from forebay.testing.polling import until as soon
from forebay.webhooks.notifier import Notifier
from forebay.worker.telling import Telling
from ingress.event_stream import HEARTBEAT
from ingress.routes.events import AWAY_S
from ingress.settings import Authentication
from tests.ingress_by_hand import World, ingress, until
from tests.keys_by_hand import give

LLM = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "stream": True}


@dataclass
class Caller:
    """One who follows a job."""

    chunks: list[bytes] = field(default_factory=list)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def events(self) -> list[tuple[int, str, Any]]:
        """Id, type and data of each, comments left out."""
        blocks = b"".join(self.chunks).decode().split("\n\n")
        found = []
        for block in blocks:
            said = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in said:
                found.append((int(said["id"]), said["event"], json.loads(said["data"])))
        return found

    @property
    def types(self) -> list[str]:
        return [type_.removeprefix("job.") for _, type_, _ in self.events]

    @property
    def text(self) -> str:
        """All deltas since the last reset."""
        text = ""
        for _, type_, data in self.events:
            if type_ == "job.output.reset":
                text = ""
            elif type_ == "job.output.delta":
                assert data["index"] == len(text)
                text += data["delta"]
        return text


@asynccontextmanager
async def following(
    world: World, job_id: str, after: int = 0, **headers: str
) -> AsyncIterator[Caller]:
    """Follow inside; leaving hangs up."""
    caller, hung_up = Caller(), asyncio.Event()

    async def receive() -> Any:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            caller.status = message["status"]
            caller.headers = {name.decode(): text.decode() for name, text in message["headers"]}
        else:
            caller.chunks.append(message.get("body", b""))
            caller.ended = not message.get("more_body", False)

    scope = {
        "type": "http",
        "method": "GET",
        "path": f"/v1/jobs/{job_id}/events",
        "raw_path": b"",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            *([(b"last-event-id", b"%d" % after)] if after else []),
            *((name.lower().encode(), text.encode()) for name, text in headers.items()),
        ],
        "server": ("forebay", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    serving = asyncio.create_task(world.app(scope, receive, send))  # type: ignore[arg-type]
    try:
        yield caller
    finally:
        hung_up.set()
        async with asyncio.timeout(10):
            await serving


def telling_of(world: World) -> Telling:
    return Telling(world.live.worker(), Notifier(world.store, MemoryEndpointStore()))


async def succeed(world: World, job: Job, text: str) -> None:
    """The worker stores its answer and says so."""
    result = json.dumps({"model": "small", "content": text})
    ended = await world.end(job, Event.SUCCEEDED, result=result)
    telling_of(world).moved(ended)


async def test_a_stream_tells_a_job_from_the_queue_to_its_end(world: World) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        claimed = await world.claim(job["id"])
        telling = telling_of(world)
        async with world.live.hearing(telling.heard, asks=True):
            with telling.writing(claimed) as write:
                telling.moved(claimed)
                await until(lambda: Ask(job["id"], 0) in world.live.said)
                write("Hel")
                write("lo")
                await until(lambda: caller.text == "Hello")
            await succeed(world, claimed, "Hello, world")
        await until(lambda: caller.ended)
    assert [*dict.fromkeys(caller.types)] == ["queued", "running", "output.delta", "succeeded"]
    assert caller.text == "Hello, world"
    assert caller.events[-1][2]["state"] == "succeeded"
    ids = [id_ for id_, _, _ in caller.events]
    assert ids == sorted(set(ids))


async def test_who_comes_back_gets_only_what_is_missing_wherever_it_was_cut(world: World) -> None:
    job = await world.submit("llm", LLM)
    claimed = await world.claim(job["id"])
    await succeed(world, claimed, "Hello, world")
    async with following(world, job["id"]) as whole:
        await until(lambda: whole.ended)
    for known, (id_, _, _) in enumerate(whole.events[:-1], 1):
        async with following(world, job["id"], after=id_) as caller:
            await until(lambda c=caller: c.ended)  # type: ignore[misc]
        assert caller.events == whole.events[known:]
    async with following(world, job["id"], after=whole.events[-1][0]) as caller:
        await until(lambda: caller.ended)
    assert (caller.status, caller.events) == (204, [])


async def test_lost_words_are_asked_for_again(world: World) -> None:
    job = await world.submit("llm", LLM)
    claimed = await world.claim(job["id"])
    telling = telling_of(world)
    async with following(world, job["id"]) as caller, world.live.hearing(telling.heard, asks=True):
        with telling.writing(claimed) as write:
            await until(lambda: "running" in caller.types)
            telling.moved(claimed)
            await until(lambda: Ask(job["id"], 0) in world.live.said)
            write("one ")
            await until(lambda: caller.text == "one ")
            world.live.deaf = True
            write("two ")
            world.live.deaf = False
            more = ""
            while len(caller.text) < len("one two"):
                # An ask takes a moment; what is written meanwhile shows again that words are lost.
                write("x")
                more += "x"
                await asyncio.sleep(0)
            await until(lambda: caller.text == f"one two {more}")


async def test_a_new_attempt_begins_the_output_anew(world: World) -> None:
    job = await world.submit("llm", LLM)
    claimed = await world.claim(job["id"])
    async with following(world, job["id"]) as caller:
        await until(lambda: "running" in caller.types)
        world.live.worker().say(Output(job["id"], 1, 0, "half an ans"))
        await until(lambda: caller.text == "half an ans")
        error = JobError(ErrorCode.PROVIDER_ERROR, "It broke off.", retryable=True)
        await world.end(claimed, Event.RETRY_LATER, error=error, wait_s=0.0)
        world.live.worker().say(Moved(job["id"], done=False))
        await until(lambda: "retrying" in caller.types)
        await world.store.queue_due(limit=10)
        again = await world.claim(job["id"])
        await succeed(world, again, "a whole answer")
        await until(lambda: caller.ended)
    assert caller.types[:4] == ["queued", "running", "output.delta", "retrying"]
    assert "output.reset" in caller.types
    assert caller.text == "a whole answer"


async def test_a_job_that_is_canceled_ends_the_stream_at_once(world: World) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        await world.client.post(f"/v1/jobs/{job['id']}/cancel")
        await until(lambda: caller.ended)
    assert caller.types == ["queued", "canceled"]


async def test_a_stop_of_the_process_ends_the_stream_without_an_end_of_the_job(
    world: World,
) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        world.services.hub.release()
        await until(lambda: caller.ended)
    assert caller.types == ["queued"]


@pytest.mark.parametrize("said", ["", "x", "-1", "1.5", "9" * 30, "٣"])
async def test_an_id_that_is_none_of_ours_is_refused(world: World, said: str) -> None:
    job = await world.submit("llm", LLM)
    path = f"/v1/jobs/{job['id']}/events"
    answer = await world.client.get(path, headers={"Last-Event-ID": said.encode()})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert answer.json()["errors"][0]["header"] == "Last-Event-ID"


async def test_an_unknown_job_has_no_events(world: World) -> None:
    answer = await world.client.get(f"/v1/jobs/job_{'0' * 32}/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_ears_of_who_has_left_are_gone(world: World) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        assert world.services.hub.followed == 1
    assert world.services.hub.followed == 0


async def test_a_stream_ends_when_its_key_is_revoked() -> None:
    async with ingress(authentication=Authentication.KEYS) as world:
        user = await give(world, tenant="default", quota=Quota(requests=10))
        admin = await give(world, Role.ADMIN, tenant="default")
        job = await world.submit(**user.headers)
        async with following(world, job["id"], **user.headers) as caller:
            await until(lambda: caller.types == ["queued"])
            assert caller.headers["ratelimit-policy"] == '"key";q=10;w=60'
            await world.client.delete(f"/v1/keys/{user.key.id}", headers=admin.headers)
            assert not caller.ended
            telling_of(world).moved(await world.claim(job["id"]))
            await until(lambda: caller.ended)
            assert caller.types == ["queued"]
    assert not [line for line in world.logs if line["event"] == "request.failed"]


def defects(world: World) -> list[Any]:
    return [line for line in world.logs if line["event"] == "request.failed"]


def moved(world: World, job_id: str) -> None:
    world.live.worker().say(Moved(job_id, done=False))


async def test_a_stream_outlives_an_outage_of_the_store(world: World) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        world.store.away = True
        moved(world, job["id"])
        await until(lambda: HEARTBEAT in caller.chunks)
        # Nobody can say now whether this caller's key lives.
        world.live.worker().say(Output(job["id"], 1, 0, "unseen"))
        world.store.away = False
        claimed = await world.claim(job["id"])
        telling_of(world).moved(claimed)
        await until(lambda: caller.types == ["queued", "running"])
        await succeed(world, claimed, "unseen, and told at the end")
        await until(lambda: caller.ended)
    assert caller.types[-1] == "succeeded"
    assert caller.text == "unseen, and told at the end"
    assert not defects(world)


async def test_a_store_that_stays_away_is_looked_for_again_in_a_while(world: World) -> None:
    """Also when no word tells that it is back."""
    job = await world.submit()
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        world.store.away = True
        moved(world, job["id"])
        await until(lambda: HEARTBEAT in caller.chunks)
        world.store.away = False
        await world.finish(job["id"], Event.SUCCEEDED, result="[]")

        async def has_ended() -> bool:
            return caller.ended

        await soon(has_ended, 2 * AWAY_S)
    assert caller.types == ["queued", "succeeded"]


async def test_a_stop_ends_a_stream_that_waits_for_the_store(world: World) -> None:
    job = await world.submit()
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        world.store.away = True
        moved(world, job["id"])
        await until(lambda: HEARTBEAT in caller.chunks)
        began = monotonic()
        world.services.hub.release()
        await until(lambda: caller.ended)
    assert monotonic() - began < AWAY_S / 2
    assert not defects(world)


async def test_a_stream_of_a_job_that_is_deleted_ends_in_order(world: World) -> None:
    job = await world.submit()
    path = f"/v1/jobs/{job['id']}"
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        await world.end(await world.claim(job["id"]), Event.SUCCEEDED, result="[]")
        assert (await world.client.delete(path)).status_code == 204
        moved(world, job["id"])
        await until(lambda: caller.ended)
    assert caller.types == ["queued"]
    assert not defects(world)
    assert (await world.client.get(f"{path}/events")).status_code == 404


async def test_a_stream_whose_text_is_kept_no_longer_ends_in_order(world: World) -> None:
    job = await world.submit("llm", LLM)
    async with following(world, job["id"]) as caller:
        await until(lambda: caller.types == ["queued"])
        world.store.forgets_results = True
        large = json.dumps({"content": "x" * INLINE_BYTES})
        ended = await world.finish(job["id"], Event.SUCCEEDED, result=large)
        telling_of(world).moved(ended)
        await until(lambda: caller.ended)
    assert caller.types == ["queued"]
    assert not defects(world)
