"""A stream of tokens outlives the ingress it came through.

A caller follows a job whose provider is writing. The ingress is killed in the middle, the caller
goes on at another one from the last event it has, and what it joins is what is stored, byte for
byte. `--count=50` is the long form.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.local.environment import Crew
from forebay.local.stack import Stack
from forebay.testing.polling import until

CUTS = 4
LATENCY_S = 1.5
DELTA, RESET = "job.output.delta", "job.output.reset"


@dataclass
class Reader:
    """One who follows a job, through whichever ingress."""

    job_id: str
    last_id: int = 0
    text: str = ""
    deltas: int = 0
    ended: bool = False
    types: list[str] = field(default_factory=list)

    async def events(self, session: aiohttp.ClientSession, url: str) -> AsyncIterator[str]:
        """The type of each event from the last one on, after it was taken in."""
        headers = {"Last-Event-ID": str(self.last_id)} if self.last_id else {}
        path = f"{url}/v1/jobs/{self.job_id}/events"
        async with session.get(path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            block: dict[str, str] = {}
            async for line in answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    block[name] = value
                elif "event" in block:
                    self._take(int(block["id"]), block["event"], json.loads(block["data"]))
                    yield block["event"]
                    block = {}

    def _take(self, id_: int, type_: str, data: Any) -> None:
        assert id_ > self.last_id
        self.last_id = id_
        self.types.append(type_)
        if type_ == DELTA:
            assert data["index"] == len(self.text), "a piece is missing, or came twice"
            self.text += data["delta"]
            self.deltas += 1
        elif type_ == RESET:
            self.text = ""
        self.ended = type_ in {"job.succeeded", "job.failed", "job.canceled", "job.expired"}


async def submit(session: aiohttp.ClientSession, url: str, n: int) -> str:
    prompt = f"number {n}: smørrebrød, 漢字 and 🚰 [simulate latency={LATENCY_S}]"
    body = {"model": "small", "messages": [{"role": "user", "content": prompt}], "stream": True}
    async with session.post(f"{url}/v1/llm", json=body) as answer:
        assert answer.status == 202
        return str((await answer.json())["id"])


async def ready(session: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError):
        async with session.get(f"{url}/readyz") as answer:
            return answer.status == 200
    return False


@pytest.mark.e2e
@pytest.mark.timeout(1200)
async def test_a_stream_goes_on_at_another_ingress_when_its_own_is_killed(
    tmp_path: Path, request: pytest.FixtureRequest, figures: list[str]
) -> None:
    cuts = request.config.getoption("--count") or CUTS
    chance = random.Random(request.config.getoption("--seed"))
    after_cut = 0
    async with (
        Stack(tmp_path, crew=Crew({"ingress": 2}, pauses_s=(0.1, 0.1))) as stack,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
    ):
        names = [*stack.ingress_urls]
        for n in range(cuts):
            mine, other = names[n % 2], names[1 - n % 2]
            reader = Reader(await submit(session, stack.ingress_urls[mine], n))
            cut_at = chance.randint(1, 4)
            with suppress(aiohttp.ClientError):
                async with aclosing(reader.events(session, stack.ingress_urls[mine])) as events:
                    async for _ in events:
                        if reader.deltas == cut_at:
                            stack.kill(mine)
            assert not reader.ended, "it was to be cut in the middle"
            had = reader.deltas
            async with aclosing(reader.events(session, stack.ingress_urls[other])) as events:
                async for _ in events:
                    pass
            assert reader.types[-1] == "job.succeeded", reader.types
            assert reader.deltas > had, "nothing was left to come after the cut"
            after_cut += reader.deltas - had
            url = f"{stack.ingress_urls[other]}/v1/jobs/{reader.job_id}/result"
            async with session.get(url) as answer:
                assert reader.text == (await answer.json())["content"]
            await until(lambda url=stack.ingress_urls[mine]: ready(session, url), 30)  # type: ignore[misc]
        assert sum(len(stack.endings(name)) for name in names) == cuts
    figures.append(f"streams cut by a kill: {cuts} of {cuts} joined; {after_cut} pieces after it")
