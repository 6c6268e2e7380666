"""`make demo`: the whole system, 500 requests at once, and the story of their digestion."""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from forebay.local.demo_calls import Callers, Receipt, Watcher, requests
from forebay.local.demo_figures import KINDS, Observed, broken_promises, figures
from forebay.local.demo_screen import Progress, in_short, summary
from forebay.local.lock import only_one
from forebay.local.mongodb import mongodb_version
from forebay.local.processes import write_json
from forebay.local.screen import say
from forebay.local.stack import Stack

CALLERS = 500
# So small that the queues are seen: about 15 s of work for calls of 0.1 to 2.5 s.
CONCURRENCY = {"search": 10, "crawl": 10, "llm": 20}
_DIGESTED_WITHIN_S = 180.0
_LOOK_EVERY_S = 0.5


async def demo(directory: Path) -> int:
    """Run it; returns 0 when everything held, 1 when not. Writes `demo.json`."""
    with only_one(directory):
        data = directory / "demo-data"
        shutil.rmtree(data, ignore_errors=True)
        (directory / "demo.json").unlink(missing_ok=True)
        async with Stack(directory, concurrency=CONCURRENCY, data=data) as stack:
            _say_where(stack)
            found, results = await _scene(stack)
            say("Ending everything ...")
    shutil.rmtree(data, ignore_errors=True)
    broken = broken_promises(found)
    write_json(directory / "demo.json", found)
    for line in [*summary(found, broken), "", *results, "", f"Figures: {directory}/demo.json"]:
        say(line)
    return 1 if broken else 0


async def _scene(stack: Stack) -> tuple[dict[str, Any], list[str]]:
    say(f"{CALLERS} callers connect ...")
    async with Callers(stack.ingress_url, requests(CALLERS, stack.site_url)) as callers:
        say(f"... and send {CALLERS} requests at the same moment: search, crawl and LLM.")
        begun = time.monotonic()
        receipts = await callers.fire()
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        ids = {receipt.job_id for receipt in receipts if receipt.job_id is not None}
        watcher = Watcher(session, stack.ingress_url, ids)
        jobs = await _digest(watcher, receipts, begun)
        digest_s = time.monotonic() - begun
        async with session.get(f"{stack.providers_url}/_stats") as answer:
            stats = await answer.json()
        async with session.get(f"{stack.providers_url}/_calls") as answer:
            calls = (await answer.json())["calls"]
        seen = Observed(receipts, jobs, stats, calls, stack.concurrency)
        results = await _one_of_each(watcher, jobs)
        return figures(seen, digest_s, await _versions(session, stack)), results


async def _digest(
    watcher: Watcher, receipts: Sequence[Receipt], begun: float
) -> list[dict[str, Any]]:
    """Show the jobs until all are done, or until it takes too long."""
    accepted = sum(receipt.status == 202 for receipt in receipts)
    with Progress(receipts) as progress:
        while True:
            jobs = await watcher.look()
            elapsed_s = time.monotonic() - begun
            progress.show(jobs, elapsed_s)
            done = sum(job["done"] for job in jobs)
            if done >= accepted or elapsed_s > _DIGESTED_WITHIN_S:
                return jobs
            await asyncio.sleep(_LOOK_EVERY_S)


async def _one_of_each(watcher: Watcher, jobs: Sequence[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for kind in KINDS:
        done = [job for job in jobs if job["kind"] == kind and job["state"] == "succeeded"]
        if done:
            lines += in_short(await watcher.get(f"/v1/jobs/{done[0]['id']}"))
    return lines


async def _versions(session: aiohttp.ClientSession, stack: Stack) -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "rabbitmq": "unknown",
        "mongodb": await mongodb_version(stack.servers.mongodb_url),
    }
    management = stack.endpoints()["rabbitmq_management"]
    if management["url"]:
        login = aiohttp.encode_basic_auth(management["user"], management["password"])
        headers = {"Authorization": login}
        async with session.get(f"{management['url']}/api/overview", headers=headers) as answer:
            versions["rabbitmq"] = str((await answer.json())["rabbitmq_version"])
    return versions


def _say_where(stack: Stack) -> None:
    management = stack.endpoints()["rabbitmq_management"]
    say(f"The API answers at {stack.ingress_url} (see {stack.ingress_url}/docs).")
    if management["url"]:
        say(
            f"Watch the queues in RabbitMQ's own page: {management['url']} "
            f"(user {management['user']}, password {management['password']}); "
            "`make up` keeps it open longer."
        )
