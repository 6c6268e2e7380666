"""The demo's callers: 500 connections, one request each, all at once; then a quiet watcher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from forebay.local.errors import LocalStackError
from forebay.local.wire import Wire, connect, post, read

_KINDS = ("search", "crawl", "llm")
_TOPICS = ("hydro power", "message queues", "river deltas", "retry budgets", "quorum", "turbines")
_PAGE = 200  # the longest page of GET /v1/jobs
_ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one caller sends."""

    kind: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one caller got; `status` 0 is no answer, `ms` from sending to the whole answer."""

    kind: str
    status: int
    ms: float
    job_id: str | None


def requests(count: int, site_url: str) -> list[Request]:
    """As many requests, the three kinds in turn, all different."""
    return [_request(number, site_url) for number in range(count)]


def _request(number: int, site_url: str) -> Request:
    kind, turn = _KINDS[number % len(_KINDS)], number // len(_KINDS) + 1
    topic = _TOPICS[number % len(_TOPICS)]
    match kind:
        case "search":
            return Request(kind, {"query": f"{topic} {turn}"})
        case "crawl":
            url = f"{site_url}/pages/{turn}"
            return Request(kind, {"url": url, "formats": ["markdown", "links"]})
        case _:
            message = {"role": "user", "content": f"Explain {topic}, question {turn}."}
            return Request(kind, {"model": "small", "messages": [message]})


class Callers:
    """One connection for each caller, opened beforehand, as callers of a service have them.

    Entered means all are connected.
    """

    def __init__(self, ingress_url: str, requests: Sequence[Request]) -> None:
        self._url = ingress_url
        self._requests = requests
        self._wires: list[Wire] = []

    async def __aenter__(self) -> Self:
        try:
            for _ in self._requests:
                self._wires.append(await connect(self._url))
        except OSError as error:
            self._hang_up()
            raise LocalStackError(f"The ingress at {self._url} does not answer: {error}") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()

    async def fire(self) -> list[Receipt]:
        """Send all at once and wait for every answer."""
        ready = [
            (wire, request, post(f"{self._url}/v1/{request.kind}", request.body))
            for wire, request in zip(self._wires, self._requests, strict=True)
        ]
        return list(await asyncio.gather(*(_submit(*one) for one in ready)))

    def _hang_up(self) -> None:
        for wire in self._wires:
            wire.close()


async def _submit(wire: Wire, request: Request, message: bytes) -> Receipt:
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            ms, answer = await wire.ask(message)
        status, body = read(answer)
    except (TimeoutError, OSError, ValueError):
        return Receipt(request.kind, 0, _ANSWER_WITHIN_S * 1000, None)
    return Receipt(request.kind, status, ms, body.get("id"))


class Watcher:
    """Looks at the jobs through the public API: three pages a look for 500 jobs."""

    def __init__(self, session: aiohttp.ClientSession, ingress_url: str, ids: set[str]) -> None:
        self._session = session
        self._url = ingress_url
        self._ids = ids

    async def look(self) -> list[dict[str, Any]]:
        """Every job of ours as the list shows it, without its result."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < len(self._ids):
            query = {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = await self.get("/v1/jobs", query)
            found += [job for job in page["data"] if job["id"] in self._ids]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    async def get(self, path: str, query: dict[str, str] | None = None) -> Any:
        """One JSON answer of the API; raises `LocalStackError` for anything but 200."""
        try:
            async with self._session.get(f"{self._url}{path}", params=query) as answer:
                if answer.status != 200:
                    raise LocalStackError(f"GET {path} was answered {answer.status}.")
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LocalStackError(f"GET {path} was not answered: {error}") from None
