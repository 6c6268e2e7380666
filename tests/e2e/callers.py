"""Callers as they are outside: they keep a ledger, and repeat what was not answered.

A connection that breaks or a 503 leaves the caller not knowing; it asks again with the same
`Idempotency-Key`, as the documentation tells it to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from forebay.audit.ledger import NO_ANSWER, Answer, LedgerWriter
from forebay.testing.polling import until

PATIENCE_S = 120.0
LOOK_AFTER_EVERY = 4
"""Of so many accepted jobs one is asked for right after its 202."""
Json = dict[str, Any]


@dataclass
class Ledger:
    """What was answered to whom, kept outside the system: in the file, and here at a glance."""

    file: LedgerWriter
    accepted: dict[str, str] = field(default_factory=dict)
    """Job id by idempotency key, for every 202."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Every answer to a submission; 0 is none."""

    def note(self, method: str, path: str, status: int, said: Json, **asked: Any) -> Answer:
        """Write an answer down; `said` is its body, empty where there was none to be read."""
        told = {name: said.get(name) for name in ("kind", "state", "generation")}
        told["note"] = said.get("detail")
        job_id = said.get("id") or asked.pop("job_id", None)
        answer = self.file.note(method, path, status, **{**told, "job_id": job_id, **asked})
        if answer.submission:
            self.statuses[status] += 1
        if answer.accepted and answer.key is not None and answer.job_id is not None:
            self.accepted[answer.key] = answer.job_id
        return answer


class Callers:
    """Submits and waits through the public API only; `forebay audit` can read the ledger."""

    patience_s = PATIENCE_S
    """How long a caller repeats what was not accepted."""

    def __init__(self, ingress_url: str, site_url: str, ledger_path: Path) -> None:
        self.ledger_path = ledger_path
        self.ledger = Ledger(LedgerWriter(ledger_path))
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
        self.ledger.file.close()

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
        return await self.submit_to(f"/v1/{kind}", body, f"caller-{number}")

    async def submit_to(self, path: str, body: Json, key: str) -> str:
        """The same with a path, a body and an idempotency key of one's own."""
        accepted: list[str] = []

        async def until_accepted() -> bool:
            status, said = await self._post(path, body, {"Idempotency-Key": key})
            wished = {"key": key, "result_ttl_s": body.get("result_ttl_s")}
            answer = self.ledger.note("POST", path, status, said, **wished)
            if answer.accepted and answer.job_id is not None:
                accepted.append(answer.job_id)
            return answer.accepted

        await until(until_accepted, self.patience_s)
        if len(self.ledger.accepted) % LOOK_AFTER_EVERY == 0:
            await self._look(accepted[0])
        return accepted[0]

    async def _look(self, job_id: str) -> None:
        """Ask for it at once, over whichever ingress: the audit judges what was answered."""
        path = f"/v1/jobs/{job_id}"
        try:
            async with self._session.get(self._url + path) as answer:
                status, said = answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return  # that ingress died meanwhile
        self.ledger.note("GET", path, status, said, job_id=job_id)

    async def _post(self, path: str, body: Json, headers: dict[str, str]) -> tuple[int, Json]:
        try:
            async with self._session.post(self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return NO_ANSWER, {}

    async def wait(self, job_id: str) -> Json:
        """Long-poll until the job is terminal; the job. A 404 for an accepted job fails at once."""
        path = f"/v1/jobs/{job_id}"
        found: Json = {}

        async def done() -> bool:
            try:
                async with self._session.get(
                    self._url + path, params={"wait": "10", "include": "attempts"}
                ) as answer:
                    status, said = answer.status, await answer.json()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                return False  # the ingress is being restarted
            self.ledger.note("GET", path, status, said, job_id=job_id)
            assert status != 404, f"{job_id} was answered 202 and is not there"
            found.update(said)
            return status == 200 and bool(said["done"])

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
