"""I1, I2, I4, I9: every process of ours is killed in the middle of a burst, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from forebay.local.stack import Stack
from forebay.testing.polling import until

from .callers import Callers, calls_by_job
from .conftest import running_stack

BURST = 500
VICTIMS = ("llm_worker", "ingress", "search_worker", "reconciler", "crawler_worker")


async def calls_so_far(callers: Callers, stack: Stack) -> int:
    stats = await callers.get(f"{stack.providers_url}/_stats")
    return sum(stats[kind]["calls"] for kind in ("search", "crawl", "llm"))


async def kill_each_in_turn(stack: Stack, callers: Callers) -> dict[str, int]:
    """Kill a process each time another thirty calls began, so that calls are always in flight."""
    killed: dict[str, int] = {}
    seen = 0

    async def thirty_more() -> bool:
        return await calls_so_far(callers, stack) >= seen + 30

    for name in VICTIMS:
        await until(thirty_more)
        seen = await calls_so_far(callers, stack)
        (killed[name],) = stack.pids(name)
        stack.kill(name)
    return killed


@pytest.mark.e2e
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("machine_servers")
async def test_killing_a_worker_of_each_kind_the_ingress_and_the_reconciler_loses_nothing(
    tmp_path: Path,
) -> None:
    async with running_stack(tmp_path) as (stack, callers):
        killing = asyncio.create_task(kill_each_in_turn(stack, callers))
        ids = await asyncio.gather(*(callers.submit(number) for number in range(BURST)))
        jobs = await asyncio.gather(*(callers.wait(job_id) for job_id in ids))
        killed = await killing
        calls = await calls_by_job(callers, stack.providers_url)
        restarted = {name: stack.pids(name) for name in VICTIMS}
    assert len(set(ids)) == BURST
    assert {job["id"] for job in jobs} == set(callers.ledger.accepted.values())
    assert not_succeeded(jobs) == []
    for job in jobs:
        made = calls.get(job["id"], {})
        assert made, f"{job['id']} succeeded without a call"
        assert len(made) <= job["max_attempts"]
        assert max(made) <= job["max_attempts"]
        if job["kind"] != "crawl":
            assert max(made.values()) == 1, f"{job['id']}: an attempt called its provider twice"
    for name, before in killed.items():
        assert restarted[name], f"{name} was not restarted"
        assert before not in restarted[name]


def not_succeeded(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [job for job in jobs if job["state"] != "succeeded"]
