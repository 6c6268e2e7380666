"""What docs/client.md says of lost answers, with an ingress that is killed."""

from __future__ import annotations

import asyncio

import pytest

from forebay.client import Client, Job, JobStream, Output
from forebay.local.stack import Stack
from forebay.testing.polling import until

CALLERS, EACH = 8, 12
TAG = "while-it-is-killed"


async def joined(stream: JobStream, writes: asyncio.Event) -> str:
    async with stream:
        async for event in stream:
            if isinstance(event, Output):
                writes.set()
    return stream.text


async def submitted(client: Client, jobs: list[Job]) -> None:
    """One after another, so that a kill finds some on their way."""
    for n in range(EACH):
        job = await client.search(f"weir {n}", limit=1, tags=[TAG])
        jobs.append(job)


async def is_at_least(jobs: list[Job], count: int) -> bool:
    return len(jobs) >= count


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_calls_waits_and_streams_go_on_when_the_ingress_is_killed(stack: Stack) -> None:
    killed = len(stack.endings("ingress"))
    async with Client(stack.ingress_url, patience_s=90) as client:
        slow = await client.search("weir [simulate latency=3]")
        wait = asyncio.create_task(client.wait(slow, timeout_s=120))
        llm = await client.llm("small", "A story. [simulate latency=3]", stream=True)
        writes = asyncio.Event()
        follow = asyncio.create_task(joined(client.stream(llm), writes))
        await writes.wait()
        jobs: list[Job] = []
        submit = asyncio.gather(*(submitted(client, jobs) for _ in range(CALLERS)))
        await until(lambda: is_at_least(jobs, CALLERS), 30)
        stack.kill("ingress")
        assert len(jobs) < CALLERS * EACH, "nothing was left to come after the kill"
        text = await follow
        assert text == (await client.result(llm))["content"] != ""
        assert (await wait).succeeded
        await submit
        ids = {job.id for job in jobs}
        assert len(ids) == CALLERS * EACH
        assert {job.id async for job in client.iterate(tag=TAG)} == ids

    async def has_ended() -> bool:
        return len(stack.endings("ingress")) == killed + 1

    await until(has_ended, 30)
