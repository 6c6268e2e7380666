"""Callers as they are outside: they keep a ledger, and repeat what was not answered.

A connection that breaks or a 503 leaves the caller not knowing; it asks again with the same
`Idempotency-Key`, as the documentation tells it to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from forebay.testing.polling import until

TERMINAL = {"succeeded", "failed", "canceled", "expired"}
PATIENCE_S = 120.0


@dataclass
class Ledger:
    """What was answered to whom, kept outside the system."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Job id by idempotency key, for every 202."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Every answer; 0 is none."""


class Callers:
    """Submits and waits through the public API only."""

    def __init__(self, ingress_url: str, site_url: str) -> None:
        self.ledger = Ledger()
        self._url = ingress_url
        self._site = site_url
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def body(self, number: int) -> tuple[str, dict[str, Any]]:
        """The request of a caller: the three kinds in turn."""
        match number % 3:
            case 0:
                return "search", {"query": f"hydro power {number}"}
            case 1:
                return "crawl", {"url": f"{self._site}/pages/{number % 200 + 1}"}
            case _:
                message = {"role": "user", "content": f"Explain dam number {number}."}
                return "llm", {"model": "small", "messages": [message]}

    async def submit(self, number: int) -> str:
        """Submit until it is accepted; the job's id."""
        kind, body = self.body(number)
        headers = {"Idempotency-Key": f"caller-{number}"}

        async def accepted() -> bool:
            status, job = await self._post(f"{self._url}/v1/{kind}", body, headers)
            self.ledger.statuses[status] += 1
            if status in {200, 202}:
                self.ledger.accepted[headers["Idempotency-Key"]] = job["id"]
            return status in {200, 202}

        await until(accepted, PATIENCE_S)
        return self.ledger.accepted[headers["Idempotency-Key"]]

    async def _post(
        self, url: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with self._session.post(url, json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, {}

    async def wait(self, job_id: str) -> dict[str, Any]:
        """Long-poll until the job is terminal; the job. A 404 for an accepted job fails at once."""
        url = f"{self._url}/v1/jobs/{job_id}?wait=10&include=attempts"
        found: dict[str, Any] = {}

        async def done() -> bool:
            try:
                async with self._session.get(url) as answer:
                    assert answer.status != 404, f"{job_id} was answered 202 and is not there"
                    found.update(await answer.json())
                    return answer.status == 200 and bool(found["done"])
            except (aiohttp.ClientError, TimeoutError, OSError):
                return False  # the ingress is being restarted

        await until(done, PATIENCE_S)
        return found

    async def get(self, url: str) -> Any:
        """Any JSON, from the simulators for instance."""
        async with self._session.get(url) as answer:
            return await answer.json()


async def calls_by_job(callers: Callers, providers_url: str) -> dict[str, Counter[int]]:
    """How often each attempt of each search and llm job reached its provider.

    A crawl is one call of several requests (robots.txt among them), so it is counted by attempt.
    """
    said = await callers.get(f"{providers_url}/_calls")
    found: dict[str, Counter[int]] = {}
    for call in said["calls"]:
        found.setdefault(call["job_id"], Counter())[call["attempt"]] += 1
    return found
