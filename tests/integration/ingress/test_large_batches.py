"""Batches of the largest size, good and bad: what they cost the process and everybody else (S4)."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from forebay.tasks import end
from tests.ingress_process import NOBODY, IngressProcess, serving

MIB = 1024 * 1024
LARGEST = 64 * MIB
MOST_MIB = 512
"""What a container of the manifests may have."""
MOST_S = 1.5
"""The parser alone, given it all at once, holds the loop for 7 s."""


@dataclass
class Cost:
    """What was seen meanwhile."""

    longest_s: float = 0.0
    """The longest that anybody else waited for an answer."""


@asynccontextmanager
async def others(session: aiohttp.ClientSession, url: str) -> AsyncIterator[Cost]:
    """Somebody who asks for next to nothing, all the time."""
    cost = Cost()

    async def ask() -> None:
        while True:
            began = time.monotonic()
            async with session.get(f"{url}/livez") as answer:
                assert answer.status == 200
            cost.longest_s = max(cost.longest_s, time.monotonic() - began)

    asking = asyncio.create_task(ask())
    try:
        yield cost
    finally:
        await end(asking)


def peak_mib(ingress: IngressProcess) -> int:
    status = Path(f"/proc/{ingress.process.pid}/status").read_text("ascii")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def filled(head: bytes, piece: bytes, tail: bytes) -> bytes:
    """Of the largest size, almost."""
    return head + piece * ((LARGEST - len(head) - len(tail)) // len(piece)) + tail


def full(text: str) -> bytes:
    """Ten thousand good items of 6 KB."""
    item = {"kind": "search", "input": {"query": "dam"}, "metadata": {"text": text * 6000}}
    return b'{"jobs": [%b]}' % b",".join([json.dumps(item).encode()] * 10_000)


def numbers(piece: str) -> bytes:
    """Items with fifteen hundred numbers each."""
    tools = [{"numbers": [int(piece)] * 1500}]
    messages = [{"role": "user", "content": "Infinity"}]
    item = {"kind": "llm", "input": {"model": "m", "messages": messages, "tools": tools}}
    return b'{"jobs": [%b]}' % b",".join([json.dumps(item).encode()] * 6_500)


BODIES: dict[str, tuple[str, Callable[[], bytes], int]] = {
    "a document of small numbers": ("json", lambda: filled(b'{"jobs":[1', b",1", b"]}"), 422),
    "a document of brackets": ("json", lambda: b'{"jobs":[[%b1]]}' % (b"[]," * 4 * MIB), 422),
    "one endless text": ("json", lambda: filled(b'{"jobs":["', b"a", b'"]}'), 422),
    "much beside the items": ("json", lambda: filled(b'{"metadata":[1', b",1", b"]}"), 413),
    "empty lines": ("x-ndjson", lambda: filled(b"", b"\n", b""), 422),
    "lines of nothing much": ("x-ndjson", lambda: filled(b"", b"1\n", b""), 422),
    "items of many numbers": ("json", lambda: numbers("7"), 202),
    "ten thousand good ones": ("json", lambda: full("a"), 202),
}


@pytest.fixture
async def ingress(
    session: aiohttp.ClientSession, mongodb_url: str, database: str
) -> AsyncIterator[IngressProcess]:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    async with serving(session, **settings) as running:
        # Nobody else reads its log meanwhile: a full pipe would stop it.
        assert running.process.stderr is not None
        reading = asyncio.create_task(running.process.stderr.read())
        yield running
        await end(reading)


async def send(session: aiohttp.ClientSession, url: str, media: str, body: bytes) -> int:
    headers = {"Content-Type": f"application/{media}"}
    async with session.post(f"{url}/v1/batches", data=io.BytesIO(body), headers=headers) as answer:
        await answer.read()
        assert answer.status != 503 or int(answer.headers["Retry-After"]) >= 1
        return answer.status


@pytest.mark.timeout(300)
async def test_the_largest_bodies_cost_others_little_and_the_process_no_more_than_it_has(
    session: aiohttp.ClientSession, ingress: IngressProcess, figures: list[str]
) -> None:
    before, costly = peak_mib(ingress), []
    for name, (media, body, status) in BODIES.items():
        sent = body()
        async with others(session, ingress.url) as cost:
            assert await send(session, ingress.url, media, sent) == status, name
        said = f"S4: {name}, {len(sent) // MIB} MiB: others waited {cost.longest_s:.2f} s at most"
        figures.append(said)
        costly += [said] if cost.longest_s >= MOST_S else []
    assert not costly
    several = [send(session, ingress.url, "json", sent) for _ in range(4)]
    answers = sorted(await asyncio.gather(*several))
    assert answers[0] == 202
    assert set(answers) <= {202, 503}
    peak = peak_mib(ingress)
    figures.append(f"S4: of the largest bodies at once {answers}; memory {before} -> {peak} MiB")
    assert peak < MOST_MIB
