"""I1, I2, I4, I7, I9: providers hang and answer badly, callers leave in the middle.

One scene for all of them, while one call goes on for ten leases of its worker (four in the short
form) and must stay one attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from statistics import fmean, median, quantiles
from urllib.parse import urlsplit

import pytest

from forebay.jobs import Job
from forebay.testing.polling import pace, until
from tests.e2e.callers import Callers
from tests.e2e.worker_settings import of_workers

from .conftest import Rows
from .own_jobs import (
    Body,
    calls_of,
    crawl,
    ended,
    in_flight,
    jobs_of,
    llm,
    search,
    submitted,
)
from .patient_callers import passed
from .scene import Scene, check, record, scene

LEASE_S = 3.0
LLM_SLOTS, LLM_TIMEOUT_S = 20, 30.0
"""Twice as long as the bursts that are measured while all of them hang."""
SEARCH_SLOTS, SEARCH_CALL_S = 10, 0.2
BURST, BURST_EVERY_S = 60, 1.6
"""The last of a burst waits for five rounds of calls: a second, far more than any noise."""
SETTINGS = {
    **of_workers(LEASE_S=LEASE_S, RETRY_BASE_S=1),
    "FOREBAY_SEARCH_CONCURRENCY": f"{SEARCH_SLOTS}",
    "FOREBAY_LLM_CONCURRENCY": f"{LLM_SLOTS}",
    "FOREBAY_LLM_TIMEOUT_S": f"{LLM_TIMEOUT_S:g}",
    "FOREBAY_CRAWLER_PAGE_TIMEOUT_S": "60",
}


@dataclass(frozen=True)
class World:
    """The scene, and the call that goes on all the time."""

    here: Scene
    leases: int
    long_call: str


@pytest.fixture(scope="module")
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("outside")
    option = request.config.getoption
    leases = 10 if option("--chaos") == "long" else 4
    async with scene(directory, seed=option("--seed"), **SETTINGS) as here:
        page = crawl(here, f"/pages/7?simulate=latency={LEASE_S * leases + 1:g}")
        (long_call,) = await submitted(here, page)
        yield World(here, leases, long_call)


@pytest.fixture
async def here(world: World, tmp_path: Path) -> AsyncIterator[Scene]:
    """The scene with a ledger of the test's own."""
    stack = world.here.stack
    async with Callers(stack.ingress_url, stack.site_url, tmp_path / "ledger.jsonl") as callers:
        yield replace(world.here, callers=callers, submitted=0)


Waits = list[list[int]]
"""In milliseconds, one list for each burst."""


async def waits_of(here: Scene, bursts: int) -> Waits:
    """How long each search of some bursts waited for its worker, by the store's clock."""
    ids: list[list[str]] = []
    async for _ in pace(1 / BURST_EVERY_S, bursts):
        burst = (search(latency=SEARCH_CALL_S) for _ in range(BURST))
        ids.append(await submitted(here, *burst))
    jobs = await ended(here, chain(*ids))
    return [[jobs[job_id].history[-1].queue_wait_ms for job_id in burst] for burst in ids]


def p99(bursts: Waits) -> float:
    """Of all together."""
    return quantiles([*chain(*bursts)], n=100, method="inclusive")[98]


def typical_p99(bursts: Waits) -> float:
    """Of the burst in the middle: few bursts are not spoiled by one that met a busy machine."""
    return median(p99([burst]) for burst in bursts)


@dataclass
class Hanging:
    """LLM calls that hang in every slot of the worker, until they time out."""

    here: Scene

    async def everywhere(self) -> bool:
        return await in_flight(self.here, "llm") == LLM_SLOTS

    async def nowhere(self) -> bool:
        return await in_flight(self.here, "llm") == 0

    async def __aenter__(self) -> Hanging:
        await submitted(self.here, *(llm(hang=True, times=1) for _ in range(LLM_SLOTS)))
        await until(self.everywhere, 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await until(self.nowhere, LLM_TIMEOUT_S + 20)


@dataclass
class Comparison:
    """The waits of phases in turn: calm, hanging, calm, hanging."""

    calm: list[Waits] = field(default_factory=list)
    hanging: list[Waits] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        before, during = [*chain(*self.calm)], [*chain(*self.hanging)]
        by_phase = [p99(phase) for phase in self.calm]
        return {
            "search_wait_p99_before_ms": round(p99(before)),
            "search_wait_p99_during_ms": round(p99(during)),
            "search_wait_median_before_ms": round(median(chain(*before))),
            "search_wait_median_during_ms": round(median(chain(*during))),
            "p99_changed_percent": percent(p99(during) / p99(before)),
            "typical_p99_changed_percent": percent(typical_p99(during) / typical_p99(before)),
            "p99_between_calm_phases_percent": percent(max(by_phase) / min(by_phase)),
        }


def percent(ratio: float) -> float:
    return round(100 * (ratio - 1), 1)


@pytest.mark.long_only("10 % is less than the noise of a short measurement")
@pytest.mark.timeout(900)
async def test_an_llm_provider_that_hangs_keeps_no_search_waiting(here: Scene, rows: Rows) -> None:
    row = rows("F14", "the LLM provider hangs")
    seen = Comparison()
    await waits_of(here, 1)  # the first calls of all find everything cold
    for _ in range(6):
        calm = await waits_of(here, 9)
        async with Hanging(here) as fault:
            hanging = await waits_of(here, 9)
            lasted = await fault.everywhere()
        row.injected, row.void = row.injected + lasted, row.void + (not lasted)
        if lasted:
            seen.calm.append(calm)
            seen.hanging.append(hanging)
    assert row.injected, "the calls never hung in every slot as long as it was measured"
    row.figures |= seen.figures()
    assert row.figures["p99_changed_percent"] <= 10
    stats = await here.callers.get(f"{here.stack.providers_url}/_stats")
    assert stats["llm"]["max_in_flight"] == LLM_SLOTS
    row.survived = row.injected
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)


@dataclass(frozen=True)
class Case:
    """A bad answer, and what must come of it."""

    name: str
    body: Body
    code: str
    """Of the job's error; empty for a success."""
    attempts: int
    cause: str
    """The error of every attempt but a good one."""
    pause_s: float = 0.0
    """At least so long between two calls of a job."""


ATTEMPTS = 3
EXHAUSTED = "attempts_exhausted", ATTEMPTS


def cases(here: Scene) -> list[Case]:
    """Every bad answer, from each kind of provider that can give it."""
    passing = [
        ("all 500", {"status": 500}, "provider_error", 0.0),
        ("429 without a time", {"status": 429}, "provider_rate_limited", 0.0),
        ("429 in 1 s", {"retry_after": 1}, "provider_rate_limited", 1.0),
        ("429 until a date", {"retry_after": "http-date:3"}, "provider_rate_limited", 1.9),
        ("429 with garbage", {"retry_after": "garbage"}, "provider_rate_limited", 0.0),
        ("truncated", {"truncate": True}, "provider_error", 0.0),
        ("reset", {"drop": True}, "provider_error", 0.0),
        ("broken JSON", {"invalid_json": True}, "provider_error", 0.0),
        ("wrong JSON", {"wrong_shape": True}, "provider_error", 0.0),
    ]
    lasting = [
        ("refused", {"status": 400}, "provider_rejected"),
        ("bad key", {"auth": True}, "provider_auth"),
        ("huge", {"huge": True}, "too_large"),
        ("endless", {"endless": True}, "too_large"),
    ]
    found = []
    for make in (search, llm):
        found += [
            Case(name, make(**words), *EXHAUSTED, cause, pause_s)
            for name, words, cause, pause_s in passing
        ]
        found += [Case(name, make(**words), code, 1, code) for name, words, code in lasting]
    page = crawl(here, "/pages/9?simulate=")
    for name, words, cause, pause_s in passing[:7]:
        url = f"{page['input']['url']}{spelled(words)}"
        found.append(Case(name, {**page, "input": {"url": url}}, *EXHAUSTED, cause, pause_s))
    found.append(Case("bomb", crawl(here, "/bomb"), "too_large", 1, "too_large"))
    return found


def spelled(words: Mapping[str, object]) -> str:
    return ",".join(name if value is True else f"{name}={value}" for name, value in words.items())


@pytest.mark.timeout(300)
async def test_bad_answers_end_in_their_error_after_the_attempts_that_are_allowed_and_no_hot_loop(
    here: Scene, rows: Rows, long: bool
) -> None:
    row = rows("F15", "providers answer badly")
    each = [case for case in cases(here) for _ in range(10 if long else 2)]
    limited = {"retry": {"max_attempts": ATTEMPTS}}
    began = time.monotonic()
    ids = await submitted(here, *({**case.body, **limited} for case in each))
    jobs = await ended(here, ids, 120)
    row.figures["calls_per_second"] = round(
        sum(job.attempts for job in jobs.values()) / (time.monotonic() - began), 1
    )
    for case, job_id in zip(each, ids, strict=True):
        row.injected += 1
        await ended_rightly(here, case, jobs[job_id])
        row.survived += 1
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)


async def ended_rightly(here: Scene, case: Case, job: Job) -> None:
    calls = [call for call in await calls_of(here, job.id) if call["path"] != "/robots.txt"]
    said = f"{job.kind}, {case.name}: {job.error}, {[a.error for a in job.history]}"
    assert job.error is not None, said
    assert job.error.code == case.code, said
    assert job.attempts == len(calls) == case.attempts, said
    assert [a.error and a.error.code for a in job.history] == [case.cause] * case.attempts, said
    for earlier, later in pairwise(calls):
        pause_s = (later["started_monotonic_ms"] - earlier["started_monotonic_ms"]) / 1000
        assert pause_s >= case.pause_s, said


@pytest.mark.timeout(120)
async def test_failed_calls_are_repeated_after_their_backoff(here: Scene, rows: Rows) -> None:
    row = rows("F15", "providers fail, and backoff is kept")
    limited = {"retry": {"max_attempts": ATTEMPTS}}
    ids = await submitted(here, *({**llm(status=503), **limited} for _ in range(40)))
    await ended(here, ids)
    pauses: list[list[float]] = []
    for job_id in ids:
        starts = [call["started_monotonic_ms"] / 1000 for call in await calls_of(here, job_id)]
        pauses.append([later - earlier for earlier, later in pairwise(starts)])
        row.injected += len(starts)
    first, second = (fmean(pause) for pause in zip(*pauses, strict=True))
    row.figures |= {"first_pause_mean_s": round(first, 2), "second_pause_mean_s": round(second, 2)}
    # Uniform up to 1 s and up to 2 s: of 40 the means are 0.5 s and 1 s, and five deviations less.
    assert first >= 0.27
    assert second >= 0.54
    row.survived = row.injected
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)


@pytest.mark.timeout(120)
async def test_a_wish_to_come_back_in_an_hour_waits_in_the_store_and_is_not_called_before(
    here: Scene, rows: Rows, long: bool
) -> None:
    row = rows("F15", "429 for an hour")
    deadline = (datetime.now(UTC) + timedelta(seconds=30 if long else 15)).isoformat()
    makers = (search, llm)
    bodies = [{**make(retry_after=3600), "deadline": deadline} for make in makers for _ in range(5)]
    ids = await submitted(here, *bodies)

    async def all_wait() -> bool:
        return all(job.state == "retrying" for job in (await jobs_of(here, ids)).values())

    async def no_message() -> bool:
        return sum((await here.messages()).values()) == 0

    await until(all_wait, 20)
    for job in (await jobs_of(here, ids)).values():
        row.injected += 1
        assert job.not_before is not None
        assert 3560 < (job.not_before - datetime.now(UTC)).total_seconds() < 3602
    await until(no_message, 10)
    for job in (await ended(here, ids)).values():
        assert job.error is not None
        assert (job.state, job.error.code) == ("expired", "deadline_exceeded")
        assert len(await calls_of(here, job.id)) == job.attempts == 1
        row.survived += 1
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)


class LeavingCallers(Callers):
    """One in ten leaves at its first try; half of them come back with the same key."""

    chance: Random
    left: dict[str, str]
    """How it was left, by key."""
    gone: set[str]
    """Of these, who never came back."""

    async def submit(self, number: int) -> str:
        if self.chance.random() >= 0.1:
            return await super().submit(number)
        kind, body = self.body(number)
        key = f"caller-{number}"
        # In turn, so that few who leave do it in every way.
        self.left[key] = how = [*WAYS_TO_LEAVE][len(self.left) % len(WAYS_TO_LEAVE)]
        await leave(self._url, request(f"/v1/{kind}", body, key), WAYS_TO_LEAVE[how])
        if self.chance.random() < 0.5:
            self.gone.add(key)
            return ""
        return await super().submit(number)


def request(path: str, body: Body, key: str) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


Leave = Callable[[socket.socket, bytes], Awaitable[None]]


async def in_the_body(wire: socket.socket, message: bytes) -> None:
    head, _, body = message.partition(b"\r\n\r\n")
    half = head + b"\r\n\r\n" + body[: len(body) // 2]
    await asyncio.get_running_loop().sock_sendall(wire, half)


async def after_sending(wire: socket.socket, message: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(wire, message)


async def before_reading(wire: socket.socket, message: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(wire, message)
    await loop.sock_recv(wire, 1)  # it is there; the rest is never read


WAYS_TO_LEAVE: Mapping[str, Leave] = {
    "in the middle of the body": in_the_body,
    "right after sending": after_sending,
    "before reading the answer": before_reading,
}


async def leave(url: str, message: bytes, how: Leave) -> None:
    """Begin a request that way, then reset the connection."""
    parts = urlsplit(url)
    with contextlib.closing(socket.socket()) as wire:
        wire.setblocking(False)
        await asyncio.get_running_loop().sock_connect(wire, (parts.hostname, parts.port))
        await how(wire, message)
        # Closed without lingering: a reset, not an orderly end.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.timeout(300)
async def test_callers_that_leave_leave_no_job_half_done_and_find_the_same_job_again(
    world: World, tmp_path: Path, rows: Rows, long: bool, seed: int
) -> None:
    row = rows("F23", "callers disconnect in 10 % of requests")
    stack = world.here.stack
    async with LeavingCallers(stack.ingress_url, stack.site_url, tmp_path / "l.jsonl") as callers:
        callers.chance, callers.left, callers.gone = Random(seed), {}, set()
        here = replace(world.here, callers=callers, submitted=0)
        async with here.load(60 if long else 20):
            await passed(60 if long else 6)
        audit = await here.settled()
        by_key = {key: await here.store.find_by_key("default", key) for key in callers.left}
    row.injected = len(callers.left)
    for how in WAYS_TO_LEAVE:
        row.figures[f"left_{how.replace(' ', '_')}"] = [*callers.left.values()].count(how)
    assert set(callers.left.values()) == set(WAYS_TO_LEAVE)
    for key, job in by_key.items():
        came_back = key not in callers.gone
        if came_back:
            assert job is not None
            assert job.id == callers.ledger.accepted[key]
        elif callers.left[key] == "in the middle of the body":
            assert job is None, "half a request became a job"
        assert job is None or job.state == "succeeded"
        row.survived += 1
    record(row, here, audit)
    check(here, audit)


@pytest.mark.timeout(120)
async def test_a_call_that_renews_is_one_attempt_however_many_leases_it_takes(
    world: World, rows: Rows
) -> None:
    row = rows("F19", f"a call of {world.leases} leases that renews")
    job = (await ended(world.here, [world.long_call]))[world.long_call]
    assert (job.state, job.attempts, len(job.history)) == ("succeeded", 1, 1)
    row.figures["call_s"] = job.history[-1].provider_ms / 1000
    row.injected = int(row.figures["call_s"] > world.leases * LEASE_S)
    assert row.injected, "the call was too short"
    calls = [call for call in await calls_of(world.here, job.id) if call["path"] != "/robots.txt"]
    assert [(call["attempt"], call["client_gone"]) for call in calls] == [(1, False)]
    row.survived = 1
    audit = await world.here.settled()
    record(row, world.here, audit)
    check(world.here, audit)
