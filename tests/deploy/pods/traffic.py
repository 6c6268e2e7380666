"""Callers for the time of a rollout: a steady rate over kept connections, and a strict ledger.

Each caller has one connection of its own, which idles between its requests: what a load balancer
or a client's pool does, and the case in which a server that closes too early is noticed. Nothing
is repeated: a connection that breaks, a refused one and every status but the expected is an error.
Some callers only wait for jobs (`?wait=`), so that open requests are there at every moment too.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from forebay.testing.polling import pace, until

from .events import within

CALLERS, WAITERS = 50, 10
PER_SECOND = 100.0
"""Requests a second of all callers together, half of them new jobs; the waiters come on top."""
LONG_CALL_S, LONG_EVERY = 20, 200
"""Every so many jobs one whose provider takes so long."""
_FOR_EVER = 1_000_000
_TERMINAL_WITHIN_S = 180.0
_READERS = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's fate; `status` 0 is none, and `error` says why."""

    at: float
    took_s: float
    method: str
    status: int
    error: str = ""
    retry_after: str | None = None


@dataclass(slots=True)
class Ledger:
    """What was answered, kept outside the system."""

    jobs: list[str] = field(default_factory=list)
    """Every id that was answered 202."""
    answers: list[Answer] = field(default_factory=list)

    @property
    def errors(self) -> list[Answer]:
        """What no caller should have seen."""
        return [one for one in self.answers if one.status not in {200, 202}]

    def since(self, at: float) -> Ledger:
        """The answers from a moment on."""
        return Ledger(self.jobs, [one for one in self.answers if one.at >= at])

    def summary(self) -> str:
        """Counts and times in one line."""
        counts = Counter(f"{one.method} {one.status}" for one in self.answers)
        accepts = sorted(one.took_s for one in self.answers if one.status == 202)
        if not accepts:
            return f"{dict(counts)}"
        p50, p99 = (accepts[int(len(accepts) * share)] for share in (0.5, 0.99))
        return (
            f"{dict(counts)}, accept p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, "
            f"max {accepts[-1] * 1e3:.0f} ms"
        )


def job(number: int) -> tuple[str, dict[str, Any]]:
    """The three kinds in turn, with a provider that takes its time and never fails."""
    if number % LONG_EVERY == 0:
        return "llm", _prompt(LONG_CALL_S, number)
    match number % 3:
        case 0:
            return "search", {"query": f"[simulate latency=0.4] hydro power {number}"}
        case 1:
            page = f"http://providers:9081/pages/{number % 200 + 1}?simulate=latency=0.3"
            return "crawl", {"url": page}
        case _:
            return "llm", _prompt(0.6, number)


def _prompt(latency_s: float, number: int) -> dict[str, Any]:
    text = f"[simulate latency={latency_s}] Explain dam number {number}."
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


class Traffic:
    """Sends from the moment it is entered until it is left; raises nothing, keeps everything."""

    def __init__(self, url: str) -> None:
        self.ledger = Ledger()
        self._url = url
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call(n)) for n in range(CALLERS)]
        self._tasks += [asyncio.create_task(self._wait(n)) for n in range(WAITERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks)

    async def until_sent(self, count: int, within_s: float = 60.0) -> None:
        """Wait until so many more requests have been answered."""
        goal = len(self.ledger.answers) + count

        async def sent() -> bool:
            return len(self.ledger.answers) >= goal

        await until(sent, within_s)

    async def _call(self, number: int) -> None:
        every_s = CALLERS / PER_SECOND
        await within(self._ending, every_s * number / CALLERS)
        async with _one_connection(self._url) as client:
            async for turn in pace(1 / every_s, _FOR_EVER):
                if self._ending.is_set():
                    return
                if turn % 2 == 0 or not self.ledger.jobs:
                    await self._submit(client)
                else:
                    await self._read(client, self.ledger.jobs[-1 - number % 20 :][0])

    async def _wait(self, number: int) -> None:
        async with _one_connection(self._url) as client:
            while not self._ending.is_set():
                if not self.ledger.jobs:
                    await within(self._ending, 0.5)
                    continue
                known = self.ledger.jobs[-1 - number * 3 :][0]
                answer = await self._read(client, known, "?wait=10")
                if answer is None or answer["done"]:
                    await within(self._ending, 0.1)

    async def _submit(self, client: httpx.AsyncClient) -> None:
        kind, body = job(next(self._numbers))
        answer = await self._send(client, "POST", f"/v1/{kind}", body)
        if answer is not None:
            self.ledger.jobs.append(answer["id"])

    async def _read(
        self, client: httpx.AsyncClient, job_id: str, query: str = ""
    ) -> dict[str, Any] | None:
        return await self._send(client, "GET", f"/v1/jobs/{job_id}{query}")

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, body: Any = None
    ) -> dict[str, Any] | None:
        began, at = time.perf_counter(), time.monotonic()
        status, error, found, retry_after = 0, "", None, None
        try:
            answer = await client.request(method, path, json=body)
            status = answer.status_code
            if status == {"POST": 202, "GET": 200}[method]:
                found = answer.json()
            else:
                error, retry_after = answer.text[:200], answer.headers.get("retry-after")
        except httpx.HTTPError as broken:
            error = f"{type(broken).__name__}: {broken} {path}"
        took_s = time.perf_counter() - began
        self.ledger.answers.append(Answer(at, took_s, method, status, error, retry_after))
        return found


async def outcomes(url: str, jobs: list[str]) -> list[dict[str, Any]]:
    """Every job when it is terminal, with its attempts. Raises `TimeoutError`, or on a 404."""
    waiting = list(jobs)
    found: list[dict[str, Any]] = []

    async def reader(client: httpx.AsyncClient) -> None:
        while waiting:
            job_id = waiting.pop()
            answer = await client.get(f"/v1/jobs/{job_id}?include=attempts&wait=10")
            assert answer.status_code == 200, f"{job_id}: {answer.status_code} {answer.text}"
            if answer.json()["done"]:
                found.append(answer.json())
            else:
                waiting.insert(0, job_id)

    async with asyncio.timeout(_TERMINAL_WITHIN_S), _one_connection(url, _READERS) as client:
        await asyncio.gather(*(reader(client) for _ in range(_READERS)))
    return found


def _one_connection(url: str, connections: int = 1) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, keepalive_expiry=None)
    transport = httpx.AsyncHTTPTransport(verify=False, limits=limits, trust_env=False)
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=30, trust_env=False)
