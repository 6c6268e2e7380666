"""The whole system: limits of time, lanes, and what callers write and nobody else may read.

One stack for all of them: each leaves it as it found it, and the one that fills it comes last.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.local.stack import Stack
from forebay.testing.polling import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SLOTS = 4
BULK, INTERACTIVE = 10_000, 40
JSON = "application/json"
CANARY = "canary7f3a"
PATIENCE_S = 90.0
Json = dict[str, Any]


@dataclass(frozen=True)
class World:
    stack: Stack
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.stack.ingress_url

    async def submit(self, body: Json, **headers: str) -> str:
        async with self.session.post(f"{self.url}/v1/jobs", json=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            return str((await answer.json())["id"])

    async def job(self, job_id: str, wait_s: int = 0) -> Json:
        async with self.session.get(f"{self.url}/v1/jobs/{job_id}?wait={wait_s}") as answer:
            return dict(await answer.json())

    async def ended(self, job_id: str) -> Json:
        found: Json = {}

        async def is_over() -> bool:
            found.update(await self.job(job_id, wait_s=10))
            return bool(found["done"])

        await until(is_over, PATIENCE_S)
        return found

    async def calls_of(self, job_id: str) -> list[Json]:
        said = f"{self.stack.providers_url}/_calls?job={job_id}"
        async with self.session.get(said) as answer:
            return list((await answer.json())["calls"])


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("edge")
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Stack(directory, concurrency={"search": SLOTS, "crawl": SLOTS, "llm": SLOTS}) as stack,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield World(stack, session)


def search(what: str, **more: Any) -> Json:
    return {"kind": "search", "input": {"query": what}, **more}


async def test_a_job_whose_time_is_over_never_reaches_its_provider(world: World) -> None:
    """Every slot is taken for longer than the jobs behind may wait."""
    slow = [
        await world.submit(search(f"weir {n} [simulate latency=6]", lane="interactive"))
        for n in range(SLOTS)
    ]

    async def all_run() -> bool:
        return all([(await world.job(job_id))["state"] == "running" for job_id in slow])

    await until(all_run)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    late = [
        await world.submit(search(f"late {n}", **{limit: soon}))
        for n in range(5)
        for limit in ("start_by", "deadline")
    ]
    patient = await world.submit(search("patient"))
    for job_id in late:
        job = await world.ended(job_id)
        assert (job["state"], job["error"]["code"]) == ("expired", "deadline_exceeded")
        assert (job["attempts"], job["result"]) == (0, None)
    assert (await world.ended(patient))["state"] == "succeeded"
    assert [await world.calls_of(job_id) for job_id in late] == [[]] * len(late)
    assert len(await world.calls_of(patient)) == 1, "the providers' log names jobs"


def carrying(world: World) -> list[tuple[Json, dict[str, str]]]:
    """Jobs of each kind, some of which fail, with a secret wherever one can be."""
    mine = {"tags": [CANARY], "metadata": {CANARY: CANARY}}
    site = f"{world.stack.site_url}/pages/1"
    jobs: list[tuple[Json, dict[str, str]]] = []
    for n, broken in enumerate(("", " [simulate status=400]", " [simulate status=500 times=1]")):
        word = f"{CANARY}{broken}"
        message = {"role": "user", "content": word}
        crawl = f"{site}?simulate=status=400&q={CANARY}" if broken else f"{site}?q={CANARY}"
        for kind, asked in (
            ("search", {"query": word}),
            ("llm", {"model": "small", "messages": [message]}),
            ("llm", {"model": "small", "messages": [message], "stream": True}),
            ("crawl", {"url": crawl, "headers": {"Authorization": f"Bearer {CANARY}"}}),
        ):
            key = f"{CANARY}-{n}-{len(jobs)}"
            headers = {"Idempotency-Key": key, "Authorization": f"Bearer {CANARY}"}
            jobs.append(({"kind": kind, "input": asked, **mine}, headers))
    return jobs


async def bad_requests(world: World) -> list[str]:
    """What is answered to requests that are wrong and carry a secret.

    Not as the name of a field: a JSON pointer to what is not known must name it.
    """
    said = []
    headers = {"Content-Type": JSON, "Authorization": f"Bearer {CANARY}"}
    bodies: list[bytes] = [
        CANARY.encode(),
        json.dumps({"kind": CANARY, "input": {}}).encode(),
        json.dumps({"kind": "search", "input": {"query": ""}, "tags": [CANARY, ""]}).encode(),
        json.dumps({"kind": "crawl", "input": {"url": f"http://127.0.0.1/{CANARY}"}}).encode(),
        json.dumps({"kind": "crawl", "input": {"url": f"http://a:{CANARY}@b.c/"}}).encode(),
        json.dumps({"kind": "search", "input": {"query": "x"}, "deadline": CANARY}).encode(),
        b'{"kind": "search", "input": {"query": "' + CANARY.encode() + b'\xff"}}',
    ]
    for path in ("/v1/jobs", "/v1/batches", "/v1/jobs/replay", "/v1/search"):
        for body in bodies:
            async with world.session.post(world.url + path, data=body, headers=headers) as answer:
                assert 400 <= answer.status < 500
                said.append(await answer.text())
    for path in (f"/{CANARY}", f"/v1/jobs/{CANARY}", f"/v1/jobs?state={CANARY}&cursor={CANARY}"):
        async with world.session.get(world.url + path, headers=headers) as answer:
            assert 400 <= answer.status < 500
            said.append(await answer.text())
    for header in ("Idempotency-Key", "Content-Type", "Content-Encoding"):
        wrong = {**headers, header: f"\u00e9{CANARY}"}
        async with world.session.post(f"{world.url}/v1/jobs", data=b"{}", headers=wrong) as answer:
            said.append(await answer.text())
    return said


async def test_what_a_caller_writes_is_in_no_log_no_metric_and_no_error(
    world: World, figures: list[str]
) -> None:
    ids = [await world.submit(body, **headers) for body, headers in carrying(world)]
    ended = [await world.ended(job_id) for job_id in ids]
    assert {job["state"] for job in ended} >= {"succeeded", "failed"}
    errors = [json.dumps(job["error"]) for job in ended if job["error"]]
    refusals = await bad_requests(world)
    metrics = []
    for base in (world.url, *world.stack.probes.values()):
        async with world.session.get(f"{base}/metrics") as answer:
            metrics.append(await answer.text())
    names = ("ingress", "search_worker", "crawler_worker", "llm_worker", "reconciler")
    logs = {name: read(world.stack.log(name)) for name in names}
    assert all("attempt.ended" in logs[name] for name in names if name.endswith("worker"))
    assert all(map(len, (errors, refusals, metrics)))
    for what, texts in (
        ("logs", logs.values()),
        ("metrics", metrics),
        ("refusals", refusals),
        ("errors of jobs", errors),
    ):
        found = [text for text in texts if CANARY in text]
        assert [_around(text) for text in found] == [], what
    figures.append(
        f"S6: {len(ids)} jobs and {len(refusals)} refusals: the secret is in none of "
        f"{sum(map(len, logs.values()))} characters of log, {len(metrics)} pages of metrics, "
        f"{len(errors)} errors of jobs"
    )


def read(log: Path) -> str:
    return log.read_text()


def _around(text: str) -> str:
    at = text.index(CANARY)
    return text[max(at - 200, 0) : at + 100]


async def test_an_interactive_job_passes_ten_thousand_of_bulk_and_bulk_has_its_share(
    world: World, figures: list[str]
) -> None:
    call = "[simulate latency=0.4]"
    jobs = [search(f"bulk {n} {call}", lane="bulk", tags=["crowd"]) for n in range(BULK)]
    body, headers = io.BytesIO(json.dumps({"jobs": jobs}).encode()), {"Content-Type": JSON}
    url = f"{world.url}/v1/batches"
    async with world.session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        batch = (await answer.json())["links"]["self"]
    began = datetime.now(UTC)
    ids = await asyncio.gather(
        *(world.submit(search(f"quick {n} {call}", lane="interactive")) for n in range(INTERACTIVE))
    )
    quick = [await world.ended(job_id) for job_id in ids]
    last = max(datetime.fromisoformat(job["started_at"]) for job in quick)
    bulk = await started(world, "crowd")
    before = [at for at in bulk if at < began]
    meanwhile = [at for at in bulk if began <= at < last]
    behind = BULK - len(before)
    async with world.session.post(f"{world.url}{batch}/cancel") as answer:
        assert answer.status in (200, 202)
    figures.append(
        f"lanes: {INTERACTIVE} interactive jobs behind {behind} of bulk: the last one started "
        f"{(last - began).total_seconds():.1f} s later, after {len(meanwhile)} of bulk"
    )
    assert behind > 0.9 * BULK, "it was no crowd"
    assert len(meanwhile) < 0.01 * behind
    assert len(meanwhile) >= INTERACTIVE / 20, "bulk was starved"


async def started(world: World, tag: str) -> list[datetime]:
    """When jobs with a tag started, of those that did."""
    found = []
    for state in ("running", "succeeded"):
        path = f"{world.url}/v1/jobs?tag={tag}&state={state}&limit=200"
        while path:
            async with world.session.get(path) as answer:
                said = await answer.json()
                assert answer.status == 200, said
                found += [datetime.fromisoformat(job["started_at"]) for job in said["data"]]
                more = answer.links.get("next")
                path = str(more["url"]) if more else ""
    return found
