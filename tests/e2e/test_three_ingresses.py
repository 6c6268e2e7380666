"""Three ingresses are one API: what one has said is true at the others, at once.

`--count=5000` is the long form of the look at a job through another process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from forebay.local.environment import Crew
from forebay.local.stack import Stack
from forebay.testing.polling import until

LOOKS = 300
AT_ONCE = 50
KILLS = 2
"""Of the store, each in the middle of so many submissions under one key."""
WAITING_CANCELED_WITHIN_S, RUNNING_ABORTED_WITHIN_S = 1.0, 5.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Service:
    """The running system and a caller's connections to it."""

    stack: Stack
    session: aiohttp.ClientSession

    @property
    def urls(self) -> list[str]:
        return [*self.stack.ingress_urls.values()]

    async def ask(
        self, n: int, method: str, path: str, body: Any = None, key: str | None = None
    ) -> tuple[int, Any]:
        """The answer of the n-th ingress, counted round and round; status 0 is none."""
        headers = {} if key is None else {"Idempotency-Key": key}
        url = self.urls[n % len(self.urls)] + path
        try:
            async with self.session.request(method, url, json=body, headers=headers) as answer:
                return answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}

    async def submit(self, query: str, **fields: Any) -> str:
        """Somebody waits for it: it passes what other tests left in the queue."""
        body = {"kind": "search", "lane": "interactive", "input": {"query": query}, **fields}
        status, job = await self.ask(0, "POST", "/v1/jobs", body)
        assert status == 202, job
        return str(job["id"])

    async def job(self, job_id: str) -> Any:
        return (await self.ask(1, "GET", f"/v1/jobs/{job_id}"))[1]

    async def calls(self, job_id: str) -> list[Any]:
        """What reached the provider of a job."""
        async with self.session.get(f"{self.stack.providers_url}/_calls") as answer:
            return [call for call in (await answer.json())["calls"] if call["job_id"] == job_id]


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """With servers of its own, for one of them is killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOREBAY_SERVERS", "machine")
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            Stack(tmp_path_factory.mktemp("three"), crew=Crew({"ingress": 3})) as stack,
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        ):
            yield Service(stack, session)


async def test_what_one_ingress_accepted_is_found_through_another_at_once(
    service: Service, request: pytest.FixtureRequest, figures: list[str]
) -> None:
    looks = request.config.getoption("--count") or LOOKS
    found: Counter[int] = Counter()
    left = iter(range(looks))

    async def caller() -> None:
        for n in left:
            status, job = await service.ask(n, "POST", "/v1/search", {"query": f"look {n}"})
            assert status == 202, job
            found[(await service.ask(n + 1, "GET", f"/v1/jobs/{job['id']}"))[0]] += 1

    await asyncio.gather(*(caller() for _ in range(20)))
    assert found == {200: looks}
    figures.append(f"looks through another ingress right after the 202: {looks} of {looks} found")


async def test_one_key_sent_fifty_times_at_once_is_one_job(service: Service) -> None:
    body = {"query": "one key"}
    answers = await asyncio.gather(
        *(service.ask(n, "POST", "/v1/search", body, "fifty") for n in range(AT_ONCE))
    )
    assert {status for status, _ in answers} <= {200, 202}
    assert len({job["id"] for _, job in answers}) == 1
    others = await asyncio.gather(
        *(service.ask(n, "POST", "/v1/search", {"query": "b"}, "fifty") for n in range(AT_ONCE))
    )
    assert {(status, said["code"]) for status, said in others} == {(422, "idempotency_key_reused")}


async def test_one_key_is_one_job_also_when_the_store_dies_meanwhile(
    service: Service, figures: list[str]
) -> None:
    mongodb = service.stack.servers.mongodb
    assert mongodb is not None
    unknown = 0

    async def persistently(n: int, key: str) -> str:
        nonlocal unknown
        accepted: list[str] = []

        async def until_accepted() -> bool:
            nonlocal unknown
            status, job = await service.ask(n, "POST", "/v1/search", {"query": "dying"}, key)
            if status in {200, 202}:
                accepted.append(job["id"])
            else:
                assert status in {0, 503}, job
                unknown += 1
            return bool(accepted)

        await until(until_accepted, 120)
        return accepted[0]

    for kill in range(KILLS):
        key, began = f"dying-{kill}", _in(0)
        callers = [asyncio.create_task(persistently(n, key)) for n in range(AT_ONCE)]
        await mongodb.kill()
        callers += [asyncio.create_task(persistently(n, key)) for n in range(AT_ONCE)]
        await mongodb.start()
        ids = set(await asyncio.gather(*callers))
        assert len(ids) == 1
        status, said = await service.ask(0, "POST", "/v1/search", {"query": "other"}, key)
        assert (status, said["code"]) == (422, "idempotency_key_reused")
        # And no second one that nobody was told of.
        _, listed = await service.ask(1, "GET", f"/v1/jobs?created_after={began}")
        assert {job["id"] for job in listed["data"]} == ids
    assert unknown, "the store was never away"
    figures.append(
        f"one key from {2 * AT_ONCE} callers while the store is killed, {KILLS} times: one job "
        f"each; {unknown} answers that promised nothing"
    )


async def test_a_waiting_job_is_canceled_at_once_and_a_running_call_within_seconds(
    service: Service, figures: list[str]
) -> None:
    waits = await service.submit("waits", not_before="2099-01-01T00:00:00Z")
    began = time.monotonic()
    status, job = await service.ask(2, "POST", f"/v1/jobs/{waits}/cancel")
    waiting_s = time.monotonic() - began
    assert (status, job["state"]) == (200, "canceled")
    assert waiting_s <= WAITING_CANCELED_WITHIN_S

    runs = await service.submit("runs [simulate latency=60]")

    async def called() -> bool:
        return bool(await service.calls(runs))

    await until(called)
    began = time.monotonic()
    status, job = await service.ask(2, "POST", f"/v1/jobs/{runs}/cancel")
    assert (status, job["state"]) == (202, "canceling")

    async def the_provider_sees_it() -> bool:
        return all(call["client_gone"] for call in await service.calls(runs))

    await until(the_provider_sees_it)
    _, job = await service.ask(1, "GET", f"/v1/jobs/{runs}?wait=20")
    running_s = time.monotonic() - began
    assert (job["state"], job["error"]["code"]) == ("canceled", "canceled")
    assert len(await service.calls(runs)) == 1
    assert running_s <= RUNNING_ABORTED_WITHIN_S
    figures.append(
        f"canceled: a waiting job after {waiting_s * 1000:.0f} ms, a running call after "
        f"{running_s:.1f} s, its connection closed"
    )


async def test_what_comes_too_late_never_reaches_its_provider(service: Service) -> None:
    """One that may not begin any more, one that must be over, and one whose call takes too long."""
    soon = _in(1.0)
    # Late enough that its call begins, however busy the machine is.
    cut = await service.submit("cut [simulate latency=60]", deadline=_in(8.0))
    # They wait beyond their time: nothing looks at them before `not_before`.
    late = await service.submit("late to begin", not_before=soon, start_by=_in(1.001))
    over = await service.submit("late to end", not_before=soon, deadline=_in(1.001))
    for job_id in (late, over, cut):
        _, job = await service.ask(0, "GET", f"/v1/jobs/{job_id}?wait=30")
        assert (job["state"], job["error"]["code"]) == ("expired", "deadline_exceeded")
    assert await service.calls(late) == []
    assert await service.calls(over) == []
    assert [call["client_gone"] for call in await service.calls(cut)] == [True]


def _in(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now := time.time() + seconds)) + (
        f".{int(now % 1 * 1000):03d}Z"
    )
