from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from loadtest.providers import Kind, Providers

ROOT = Path(__file__).parents[3]


async def fetch(client: aiohttp.ClientSession, url: str):
    async with client.get(url) as answer:
        return await answer.json()


async def test_the_log_is_asked_over_http_by_job_and_by_kind(
    world: Providers, client: aiohttp.ClientSession
):
    base = world.providers_url
    for rid in ("job_a.1", "job_b.1", "job_a.2"):
        url = f"{base}/searxng/search?q=x&format=json"
        await (await client.get(url, headers={"X-Request-ID": rid})).read()
    await (await client.get(f"{world.site_url}/", headers={"X-Request-ID": "job_a.1"})).read()
    of_job = (await fetch(client, f"{base}/_calls?job=job_a"))["calls"]
    assert [(c["kind"], c["attempt"]) for c in of_job] == [
        ("search", 1),
        ("search", 2),
        ("crawl", 1),
    ]
    assert len((await fetch(client, f"{base}/_calls?kind=search"))["calls"]) == 3
    stats = await fetch(client, f"{base}/_stats")
    assert stats["search"]["by_status"] == {"200": 3}
    assert (stats["search"]["jobs"], stats["search"]["max_calls_per_job"]) == (2, 2)
    async with client.post(f"{base}/_reset") as answer:
        assert answer.status == 200
    assert (await fetch(client, f"{base}/_stats"))["search"]["calls"] == 0


async def test_an_unknown_kind_is_refused(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.providers_url}/_calls?kind=soup") as answer:
        assert answer.status == 400


@pytest.mark.parametrize(
    "words", ["truncate", "drop", "invalid_json", "wrong_shape", "huge", "status=500"]
)
async def test_a_spoiled_answer_is_never_a_good_one(
    world: Providers, client: aiohttp.ClientSession, words: str
):
    params = {"q": f"rivers [simulate {words}]", "format": "json"}
    try:
        async with client.get(f"{world.providers_url}/searxng/search", params=params) as answer:
            document = await answer.json() if answer.status == 200 else {}
    except (aiohttp.ClientError, json.JSONDecodeError):
        document = {}
    assert "results" not in document
    # aiohttp's client repeats a GET whose connection was lost, so there may be two calls.
    assert {call.fault for call in world.calls.calls()} == {words.replace("=", "_")}


async def test_a_stalled_answer_sends_half_and_no_more(
    world: Providers, client: aiohttp.ClientSession
):
    params = {"q": "rivers [simulate stall]", "format": "json"}
    async with client.get(f"{world.providers_url}/searxng/search", params=params) as answer:
        half = await answer.content.readany()
        assert 0 < len(half) < int(answer.headers["Content-Length"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.content.readany(), 0.05)
        answer.close()


async def test_latency_is_as_asked(world: Providers, client: aiohttp.ClientSession):
    await (await client.get(f"{world.site_url}/?simulate=latency=0.2")).read()
    (call,) = world.calls.calls()
    assert call.ended_monotonic_ms is not None
    assert 195 <= call.ended_monotonic_ms - call.started_monotonic_ms < 2000


async def test_a_thousand_calls_hang_at_once_and_others_are_served(world: Providers):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as many:
        hanging = [
            asyncio.ensure_future(many.get(f"{world.site_url}/?simulate=hang")) for _ in range(1000)
        ]
        await world.calls.until(lambda: world.calls.in_flight(Kind.CRAWL) == 1000)
        async with many.get(f"{world.site_url}/pages/1") as answer:
            assert answer.status == 200
        for call in hanging:
            call.cancel()
        await world.calls.until(lambda: world.calls.in_flight(Kind.CRAWL) == 0)
    stats = world.calls.stats()["crawl"]
    assert (stats["max_in_flight"], stats["client_gone"]) == (1001, 1000)


async def test_the_world_ends_at_once_though_calls_hang(client: aiohttp.ClientSession):
    async with asyncio.timeout(5):
        async with Providers() as world:
            call = asyncio.ensure_future(client.get(f"{world.site_url}/?simulate=hang"))
            await world.calls.until(lambda: world.calls.in_flight(Kind.CRAWL) == 1)
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_a_port_in_use_is_an_error_that_leaves_nothing_open(world: Providers):
    port = int(world.site_url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Providers(ports=(0, port)).__aenter__()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_prints_its_addresses_serves_logs_and_ends(
    tmp_path: Path, client: aiohttp.ClientSession, stop: signal.Signals
):
    log = tmp_path / "calls.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "loadtest.providers", "--profile", "quiet", "--log", str(log)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    addresses = json.loads(await process.stdout.readline())
    assert set(addresses) == {"providers", "site"}
    headers = {"X-Request-ID": "job_p.1"}
    async with client.get(f"{addresses['site']}/pages/1", headers=headers) as answer:
        assert answer.status == 200
    process.send_signal(stop)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert json.loads(log.read_text())["job_id"] == "job_p"
