"""I1, I3, I4: processes are stopped in order, stopped twice, and frozen past their leases."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from forebay.audit.ledger import read_ledger
from forebay.jobs import Job
from forebay.local.environment import Crew
from forebay.testing.polling import until
from forebay.worker.pool import HAND_BACK_S
from tests.e2e.callers import Callers
from tests.e2e.worker_settings import of_workers

from .balancer import balancing
from .broker_hands import metric
from .conftest import Rows
from .own_jobs import (
    Body,
    calls_cut,
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
from .process_figures import is_frozen
from .process_logs import log_lines
from .report import Row
from .scene import Scene, check, record, scene

SLOTS = 20
"""Of each search worker; it holds no more messages, so a frozen one takes none of the others'."""
AT_HAND, AT_HAND_S = 6, 2
"""Calls that are begun before a worker is stopped: of two copies each gets some."""
ENDS_AT_ONCE_S = 1.0
FROZEN_CALL_S = 8
"""All calls must have begun before the first one ends, on a busy machine too."""
SPARE = 2
"""Tries more: a machine that is too busy wakes the frozen one too late, and that proves nothing."""
SETTINGS = {
    "FOREBAY_SEARCH_CONCURRENCY": f"{SLOTS}",
    "FOREBAY_SEARCH_PREFETCH": f"{SLOTS}",
    **of_workers(GRACE_S=30),
    # Three questions of a balancer that gets no answer, and each is given up after a second.
    "FOREBAY_INGRESS_LAME_DUCK_S": "3",
    # A busy machine may keep an ingress waiting for longer than a second while others start; that
    # it then says 503 is another test's.
    "FOREBAY_INGRESS_ACCEPT_TIMEOUT_S": "10",
}
CREW = Crew(copies={"ingress": 2, "search_worker": 2})
KINDS = {"search_worker": "search", "crawler_worker": "crawl", "llm_worker": "llm"}


@pytest.fixture(scope="module")
async def everything(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """One scene for all of them: each test leaves it running, with nothing to do."""
    seed = request.config.getoption("--seed")
    directory = tmp_path_factory.mktemp("processes")
    async with scene(directory, profile="demo", seed=seed, crew=CREW, **SETTINGS) as here:
        yield here


@pytest.fixture
async def here(everything: Scene, tmp_path: Path) -> AsyncIterator[Scene]:
    """The scene with a ledger of the test's own, and callers behind a balancer."""
    async with (
        balancing(everything.stack.ingress_urls.values()) as balancer,
        Callers(balancer.url, everything.stack.site_url, tmp_path / "ledger.jsonl") as callers,
    ):
        await until_ready(balancer.behind)
        yield replace(everything, callers=callers, submitted=0)


async def until_ready(urls: Iterable[str]) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        for url in urls:

            async def ready(url: str = url) -> bool:
                try:
                    async with session.get(f"{url}/readyz") as answer:
                        return answer.status == 200
                except (aiohttp.ClientError, TimeoutError, OSError):
                    return False

            await until(ready)


def watch_for_an_end(here: Scene, name: str) -> Callable[[], Awaitable[bool]]:
    """Tells whether a process ended once more since now."""
    before = len(here.stack.endings(name))

    async def ended_once_more() -> bool:
        return len(here.stack.endings(name)) > before

    return ended_once_more


async def restart(here: Scene, row: Row, name: str) -> None:
    """SIGTERM to one process, with calls of its own under way if it makes any; until it is back."""
    if kind_of(name) is not None:
        await submitted(here, *(a_call(here, name) for _ in range(AT_HAND)))
        await until(lambda: makes_calls(here, name), 20)
    ended_once_more = watch_for_an_end(here, name)
    began = time.monotonic()
    here.stack.send(name, signal.SIGTERM)
    await until(ended_once_more, 45)
    row.injected += 1
    row.top("stopped_after_s_max", time.monotonic() - began)
    assert here.stack.endings(name)[-1] == "exit code 0"
    url = here.stack.ingress_urls.get(name) or here.stack.probes[name]
    await until_ready([url])
    row.top("back_after_s_max", time.monotonic() - began)
    row.survived += 1


def kind_of(name: str) -> str | None:
    """The kind of calls that a process makes; None if it makes none."""
    return KINDS.get(name.partition("-")[0])


def a_call(here: Scene, name: str) -> Body:
    match kind_of(name):
        case "search":
            return search(latency=AT_HAND_S)
        case "llm":
            return llm(latency=AT_HAND_S)
        case _:
            return crawl(here, f"/pages/11?simulate=latency={AT_HAND_S}")


async def makes_calls(here: Scene, name: str) -> bool:
    """Whether this very process has calls in hand; its copy's calls are not its own."""
    return await metric(here.stack.probes[name], "forebay_calls_in_flight") >= 2


def drained_calls(here: Scene, name: str, since: float) -> int:
    """The calls that a worker finished after it was told to stop, by its own words."""
    return sum(
        line["finished"] for line in log_lines(here.stack.log(name), "process.drained", since)
    )


@pytest.mark.alone
@pytest.mark.timeout(900)
async def test_a_rolling_restart_of_everything_is_not_seen_by_callers_and_cuts_no_call(
    here: Scene, rows: Rows, long: bool
) -> None:
    row = rows("F18", "every process restarted, one after the other")
    began_at, cut_before = time.time(), await calls_cut(here)
    names = (*here.stack.ingress_urls, *here.stack.probes)
    rounds = 5 if long else 1
    async with here.load(60 if long else 20):
        for _ in range(rounds):
            for name in names:
                await restart(here, row, name)
    audit = await here.settled()
    record(row, here, audit)
    cut = await calls_cut(here)
    row.figures["calls_cut"] = sum(cut[kind] - cut_before[kind] for kind in KINDS.values())
    workers = [name for name in names if kind_of(name) is not None]
    drained = {name: drained_calls(here, name, began_at) for name in workers}
    row.figures["calls_finished_in_drains"] = sum(drained.values())
    answers = read_ledger(here.callers.ledger_path)
    errors = Counter((a.status, a.note) for a in answers if a.status not in {200, 202})
    row.figures["client_errors"] = errors.total()
    assert errors == {}
    assert row.figures["calls_cut"] == 0
    assert min(drained.values()) > 0, f"who had no call in hand could cut none: {drained}"
    assert row.injected == rounds * len(names)
    check(here, audit)


@pytest.mark.timeout(300)
async def test_a_second_sigterm_ends_a_worker_at_once_and_its_jobs_are_handed_back(
    here: Scene, rows: Rows, long: bool
) -> None:
    row = rows("F18", "a second SIGTERM during a drain")
    times = 10 if long else 1
    for _ in range(times):
        ids = await submitted(here, *(llm(latency=25, times=1) for _ in range(5)))
        jobs = await stopped_twice(here, row, ids)
        assert [job.state for job in jobs] == ["succeeded"] * 5
        assert {job.history[0].outcome for job in jobs} == {"handed_back"}
        assert {job.attempts for job in jobs} == {2}
        row.survived += 1
    assert row.injected == times
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)


async def stopped_twice(here: Scene, row: Row, ids: list[str]) -> list[Job]:
    name, began_at = "llm_worker", time.time()

    async def under_way() -> bool:
        return await in_flight(here, "llm") >= len(ids)

    async def stopping() -> bool:
        return any(log_lines(here.stack.log(name), "process.stopping", began_at))

    await until(under_way)
    ended_once_more = watch_for_an_end(here, name)
    here.stack.send(name, signal.SIGTERM)
    await until(stopping)
    await passed(1.0)
    assert not await ended_once_more(), "it ended at the first signal: the second proves nothing"
    second = time.monotonic()
    here.stack.send(name, signal.SIGTERM)
    await until(ended_once_more, 30)
    row.injected += 1
    row.top("ended_after_second_s_max", time.monotonic() - second)
    assert here.stack.endings(name)[-1] == "exit code 0"
    assert time.monotonic() - second < ENDS_AT_ONCE_S + HAND_BACK_S
    (drained,) = log_lines(here.stack.log(name), "process.drained", began_at)
    assert (drained["finished"], drained["aborted"]) == (0, len(ids))
    return [*(await ended(here, ids)).values()]


@pytest.mark.timeout(900)
async def test_a_frozen_workers_late_results_are_refused_and_the_other_ones_stand(
    here: Scene, rows: Rows, long: bool
) -> None:
    row = rows("F19", "worker frozen past its lease")
    row.figures |= {"late_results_refused": 0, "late_renewals_refused": 0}
    times = 10 if long else 1
    for _ in range(times + SPARE):
        if row.injected < times:
            await freeze_past_its_leases(here, row)
    audit = await here.settled()
    record(row, here, audit)
    check(here, audit)
    assert row.injected == times, f"{row.injected} of {times} happened, void: {row.void}"


async def freeze_past_its_leases(here: Scene, row: Row) -> None:
    """The frozen one wakes with the answers to all its calls, while the other repeats them."""
    name, began_at = "search_worker-2", time.time()
    bodies = (search(latency=FROZEN_CALL_S, times=2) for _ in range(2 * SLOTS))
    ids = await submitted(here, *bodies)
    await until(lambda: all_under_way(here, len(ids)), 20)
    (pid,) = here.stack.pids(name)
    here.stack.send(name, signal.SIGSTOP)
    try:
        await until(lambda: late_answers_wait(here, ids), 60)
        running = [job for job in (await jobs_of(here, ids)).values() if job.state == "running"]
        seen = is_frozen(pid) and bool(running)
    finally:
        here.stack.send(name, signal.SIGCONT)

    async def all_late_ones_refused() -> bool:
        return refused(here, name, began_at).total() >= SLOTS

    await until(all_late_ones_refused, 30)
    jobs = await ended(here, ids)
    for job in taken_over(jobs):
        told = [(attempt.n, attempt.outcome) for attempt in job.history]
        assert told == [(1, "lease_lost"), (2, "succeeded")]
    assert {(job.state, job.attempts) for job in jobs.values()} <= {
        ("succeeded", 1),
        ("succeeded", 2),
    }
    late = refused(here, name, began_at)
    row.figures["late_results_refused"] += late["finish"]
    row.figures["late_renewals_refused"] += late["renewal"]
    seen = seen and late["finish"] > 0
    row.injected, row.void = row.injected + seen, row.void + (not seen)
    row.survived += seen


async def all_under_way(here: Scene, count: int) -> bool:
    return await in_flight(here, "search") >= count


async def late_answers_wait(here: Scene, ids: list[str]) -> bool:
    """Every job of the frozen worker was begun again, and its first call has been answered."""
    taken = taken_over(await jobs_of(here, ids))
    return len(taken) >= SLOTS and all([await was_answered(here, job.id) for job in taken])


async def was_answered(here: Scene, job_id: str) -> bool:
    """Whether the first call ended with an answer that its caller, if it lives, can still read."""
    first = (await calls_of(here, job_id))[0]
    return first["ended_ms"] is not None and not first["client_gone"]


def refused(here: Scene, name: str, since: float) -> Counter[str]:
    """What a worker was refused because its lease was lost: results (`finish`), renewals."""
    return Counter(line["at"] for line in log_lines(here.stack.log(name), "lease.lost", since))


def taken_over(jobs: Mapping[str, Job]) -> list[Job]:
    """Those that another worker began again."""
    return [job for job in jobs.values() if job.attempts == 2]
