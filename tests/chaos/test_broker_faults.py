"""I1, I2, I3, I4, I10: RabbitMQ alarms, refuses, forgets, repeats, loses everything, and dies.

One system for all of it (F5 to F9, F20, F22): each test takes it over quiet and leaves it quiet.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forebay.jobs import JobKind, Lane
from forebay.store import Refusal
from forebay.testing.polling import pace, until

from .broker_hands import (
    KINDS,
    Hands,
    answers,
    hands,
    holds,
    ingress_metric,
    submit,
    waiting_in_broker,
    worker_metric,
)
from .conftest import Rows
from .losses import lose, overload
from .message_copies import copying, foreign, replayed
from .outages import Outages
from .own_jobs import jobs_of
from .patient_callers import passed
from .report import Row
from .scene import Scene, check, record, scene

ROUTE = JobKind.SEARCH, Lane.DEFAULT
CONCURRENCY = 10
RESUMED_WITHIN_S = 90.0
QUICK_REFILL = {"FOREBAY_RECONCILER_LOST_AFTER_S": "3", "FOREBAY_RECONCILER_REFILLER_EVERY_S": "1"}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
async def here(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """The whole system; its search worker is narrow enough for a backlog."""
    told = {"FOREBAY_SEARCH_CONCURRENCY": str(CONCURRENCY)}
    if request.config.getoption("--chaos") == "short":
        told |= QUICK_REFILL
    seed = request.config.getoption("--seed")
    async with scene(tmp_path_factory.mktemp("disturbed"), seed=seed, **told) as running:
        yield running


@pytest.fixture(scope="module")
async def broker(here: Scene) -> AsyncIterator[Hands]:
    """The administrator of its broker."""
    async with hands(here) as administrator:
        yield administrator


@asynccontextmanager
async def disturbance(here: Scene, row: Row, *, unseen: bool = False) -> AsyncIterator[None]:
    """From quiet to quiet: nothing is lost meanwhile; if `unseen`, every answer is a 202."""
    before = answers(here)
    yield
    audit = await here.settled(within_s=900)
    record(row, here, audit)
    row.jobs -= before[202]
    other = answers(here) - before
    del other[202]
    row.figures["answers_not_202"] = other.total()
    check(here, audit)
    assert not (unseen and other), other
    assert row.injected > 0, "the fault was not seen to happen"
    row.survived = row.injected


async def submitted_in_turn(here: Scene, count: int, latency_s: float) -> set[str]:
    """Submit slow searches, not all in the same moment; their ids."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(submit(here, JobKind.SEARCH, latency_s=latency_s))
            async for _ in pace(100, count)
        ]
    return {task.result() for task in tasks}


async def backlog(here: Scene, count: int, latency_s: float = 0.5) -> set[str]:
    """Submit slow searches; return once some of them wait in the broker, with the ids of all."""
    ids = await submitted_in_turn(here, count, latency_s)

    async def published() -> bool:
        jobs = (await jobs_of(here, ids)).values()
        return all(job.published_at is not None or job.attempts for job in jobs)

    await until(published, 60)
    return ids


async def consumed_again_s(here: Scene) -> float:
    """How long a job that comes now takes to its end, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await here.callers.wait(await submit(here, *ROUTE[:1]))
    return round(loop.time() - began, 1)


async def acks(here: Scene) -> float:
    """Messages that the search worker acknowledged."""
    return await worker_metric(here, *ROUTE[:1], "forebay_deliveries_settled_total", how="ack")


async def published(here: Scene, outcome: str) -> float:
    """Messages of the ingress that came to this."""
    return await ingress_metric(here, "forebay_messages_published_total", outcome=outcome)


@pytest.mark.parametrize(
    ("alarm", "raised", "over"),
    [
        (
            "memory",
            ("set_vm_memory_high_watermark", "0.00001"),
            ("set_vm_memory_high_watermark", "absolute", "600MB"),
        ),
        pytest.param(
            "disk",
            ("set_disk_free_limit", "1000000GB"),
            ("set_disk_free_limit", "64MB"),
            marks=pytest.mark.long_only("it blocks as the memory alarm does"),
        ),
    ],
)
async def test_during_an_alarm_callers_see_nothing_and_what_is_queued_is_worked_off(
    here: Scene,
    broker: Hands,
    rows: Rows,
    long: bool,
    alarm: str,
    raised: tuple[str, ...],
    over: tuple[str, ...],
):
    row = rows("F6", f"{alarm} alarm")
    lasts_s = 60.0 if long else 3.0

    async def blocked() -> bool:
        return await ingress_metric(here, "forebay_broker_blocked") == 1

    async def unblocked() -> bool:
        return not await blocked()

    async with disturbance(here, row, unseen=True):
        # For as long as the command takes: something must be queued when the alarm comes.
        async with overload(here, 48, latency_s=0.25) as ids:
            await backlog(here, 20)
            await broker.control(*raised)
        try:
            waiting, acked = await waiting_in_broker(here, ids), await acks(here)
            async with here.load(per_second=50):
                row.figures["shown_as_blocked_s"] = round(await holds(blocked, 30), 2)

                async def worked_off() -> bool:
                    return await acks(here) >= acked + len(waiting)

                row.figures["acks_meanwhile"] = len(waiting)
                await until(worked_off, 60)
                await passed(lasts_s)
                row.injected += await broker.alarmed() and await blocked()
        finally:
            await broker.control(*over)
        assert waiting, "nothing was queued when the alarm came"
        row.figures["unblocked_after_s"] = round(await holds(unblocked, 30), 2)
        confirmed = await published(here, "confirmed")
        await submit(here, JobKind.LLM)

        async def by_itself() -> bool:
            return await published(here, "confirmed") > confirmed

        await until(by_itself, 30)


@pytest.mark.long_only("the refiller's own pace, a minute; a purge in F9 loses as much")
async def test_a_queue_deleted_under_its_consumer_is_consumed_when_it_is_back(
    here: Scene, broker: Hands, rows: Rows
):
    row = rows("F7", "queue deleted while consumed")
    async with disturbance(here, row), here.load(per_second=20):
        ids = await backlog(here, 60)
        row.figures["messages_lost"] = len(await waiting_in_broker(here, ids))
        await broker.delete_queue(*ROUTE)
        row.injected += not await broker.has_queue(*ROUTE)
        await broker.declare()
        row.figures["consumed_again_s"] = again_s = await consumed_again_s(here)
        assert row.figures["messages_lost"] > 0
        assert again_s < RESUMED_WITHIN_S


CLOSE = "close_all_connections", "--vhost", "forebay", "closed by a test"
TIMED_OUT = "timed out waiting for delivery acknowledgement"


@pytest.mark.long_only("four calls of rabbitmqctl and slow calls")
async def test_a_consumer_whose_call_outlasts_the_brokers_patience_is_there_again(
    here: Scene, broker: Hands, rows: Rows
):
    row = rows("F7", "delivery acknowledgement timed out")
    closed = rows("F7", "every connection closed by the broker")
    log = here.stack.directory / "data" / "rabbitmq" / "console.log"

    async def patience(ms: int, look_every_ms: int) -> None:
        settings = f"consumer_timeout, {ms}", f"channel_tick_interval, {look_every_ms}"
        told = ", ".join(f"application:set_env(rabbit, {setting})" for setting in settings)
        await broker.control("eval", f"{told}.")
        # A channel reads both once, when it is opened.
        await broker.control(*CLOSE)
        closed.injected += 1

    def timeouts() -> int:
        return log.read_text(errors="replace").count(TIMED_OUT)

    async with disturbance(here, closed), disturbance(here, row), here.load(per_second=20):
        before = timeouts()
        await patience(2_000, 500)
        try:
            await backlog(here, 40, latency_s=4.0)

            async def seen() -> bool:
                return timeouts() >= before + 3

            await until(seen, 120)
            row.injected += timeouts() - before
            row.figures["consumed_again_s"] = again_s = await consumed_again_s(here)
        finally:
            await patience(1_800_000, 60_000)
        closed.figures["consumed_again_s"] = after_close_s = await consumed_again_s(here)
    assert max(again_s, after_close_s) < RESUMED_WITHIN_S


FORGET = """
Queue = rabbit_misc:r(<<"forebay">>, queue, <<"forebay.search.default">>),
{ok, Q} = rabbit_amqqueue:lookup(Queue),
[ra:process_command(amqqueue:get_pid(Q),
                    rabbit_fifo:make_checkout({Tag, Channel}, cancel, #{}))
 || {Channel, Tag, _, _, _, _, _, _} <- rabbit_amqqueue:consumers(Q)].
"""
"""The queue forgets its consumers. Neither their channels nor their clients hear of it: this is how
a consumer is connected and deaf."""


@pytest.mark.long_only("the watchdog's own pace; tests/integration/broker has it at a quicker one")
async def test_a_consumer_that_its_queue_forgot_is_replaced_within_90_seconds(
    here: Scene, broker: Hands, rows: Rows
):
    row = rows("F7", "consumer forgotten by its queue, client not told")

    async def rebuilds() -> float:
        return await worker_metric(here, *ROUTE[:1], "forebay_consumer_rebuilds_total")

    async with disturbance(here, row), here.load(per_second=20):
        before = await rebuilds()
        said = await broker.control("eval", FORGET)
        assert "{ok," in said, said
        row.figures["consumed_again_s"] = again_s = await consumed_again_s(here)
        row.injected += await rebuilds() > before
        assert again_s < RESUMED_WITHIN_S


async def test_a_full_queue_leaves_jobs_in_the_store_until_there_is_room(
    here: Scene, broker: Hands, rows: Rows, long: bool
):
    row = rows("F8", "queue full: publish refused")
    count = 300 if long else 80
    async with disturbance(here, row, unseen=True), here.load(per_second=20):
        refused = await published(here, "nacked")
        await broker.limit(max_length=20)
        try:
            ids = await submitted_in_turn(here, count, latency_s=0.5)

            async def nacked() -> bool:
                return await published(here, "nacked") > refused

            await until(nacked, 60)
            row.injected += 1
            row.figures["messages_refused"] = int(await published(here, "nacked") - refused)
            outside = [
                job for job in (await jobs_of(here, ids)).values() if job.published_at is None
            ]
            row.figures["left_in_the_store"] = len(outside)
            assert outside
        finally:
            await broker.management.delete("policies/forebay/stricter")

        async def all_published() -> bool:
            jobs = (await jobs_of(here, ids)).values()
            return all(job.published_at is not None or job.attempts for job in jobs)

        row.figures["published_again_s"] = round(await holds(all_published, RESUMED_WITHIN_S), 1)


async def test_a_missing_binding_leaves_jobs_in_the_store_until_it_is_there(
    here: Scene, broker: Hands, rows: Rows, long: bool
):
    row = rows("F8", "binding missing: message returned")
    async with disturbance(here, row, unseen=True), here.load(per_second=20):
        returned = await published(here, "returned")
        await broker.unbind(*ROUTE)
        lasts_s = 30.0 if long else 3.0
        await passed(lasts_s)
        ids = {await submit(here, JobKind.SEARCH) for _ in range(5)}
        row.figures["messages_returned"] = int(await published(here, "returned") - returned)
        row.injected += row.figures["messages_returned"] > 0
        assert all(job.published_at is None for job in (await jobs_of(here, ids)).values())
        await broker.declare()
        row.figures["consumed_again_s"] = again_s = await consumed_again_s(here)
        assert again_s < RESUMED_WITHIN_S


OF_COPIES = Refusal.BUSY, Refusal.FINISHED, Refusal.NOT_DUE
"""Why a copy is refused; the last when its job waits to be tried again."""


async def test_messages_that_come_five_times_and_from_the_past_lead_to_one_call_each(
    here: Scene, broker: Hands, rows: Rows, long: bool, seed: int
):
    copied, old = rows("F20", "message delivered 1 to 5 times"), rows("F20", "old message replayed")

    async def refused(reason: str) -> float:
        return sum(
            [
                await worker_metric(here, kind, "forebay_claims_refused_total", reason=reason)
                for kind in KINDS
            ]
        )

    before = {why: await refused(why) for why in (*OF_COPIES, Refusal.STALE)}
    async with disturbance(here, old), disturbance(here, copied):
        async with copying(broker, random.Random(seed)) as copies, here.load(per_second=50):
            ids = await submitted_in_turn(here, 20, latency_s=0.5)
            await asyncio.gather(*(here.callers.wait(job_id) for job_id in ids))
            await passed(60 if long else 2)
        copied.injected = copies.made
        check(here, await here.settled(within_s=120))
        old.injected = await replayed(here, broker, ids)
    repeated = sum([await refused(why) - before[why] for why in OF_COPIES])
    copied.figures["claims_refused"] = int(repeated)
    old.figures["claims_refused"] = int(await refused(Refusal.STALE) - before[Refusal.STALE])
    assert copied.figures["claims_refused"] >= copies.made
    assert old.figures["claims_refused"] == old.injected


async def test_what_cannot_be_read_goes_to_the_dead_queue_once_and_the_workers_go_on(
    here: Scene, broker: Hands, rows: Rows, long: bool
):
    row = rows("F22", "undecodable, unknown version, unknown job")

    async def dead_letters() -> float:
        name = "forebay_deliveries_settled_total"
        return sum([await worker_metric(here, kind, name, how="dead_letter") for kind in KINDS])

    before = await dead_letters()
    async with disturbance(here, row):
        async with here.load(per_second=50):
            expected = await foreign(broker, 20 if long else 2)
            row.injected = sum(expected.values())

            async def all_dead() -> bool:
                return await dead_letters() >= before + row.injected

            row.figures["in_the_dead_queues_s"] = round(await holds(all_dead, 60), 2)
        found: Counter[tuple[JobKind, object]] = Counter()
        for kind in KINDS:
            for letter in await broker.dead(kind):
                found[kind, letter.headers["x-forebay-reason"]] += 1
        assert found == expected
        # No loop: each was settled once.
        assert await dead_letters() == before + row.injected


@pytest.mark.alone
async def test_what_a_purged_queue_had_is_in_it_again_within_a_minute_however_much_comes(
    here: Scene, broker: Hands, rows: Rows, long: bool
):
    row = rows("F9", "all queues purged under overload")
    # More comes than is worked off: the queue is not empty afterwards, and must not hide the loss.
    async with disturbance(here, row), overload(here, 48, latency_s=0.25) as ids:
        await passed(60 if long else 5)
        await lose(here, row, ids, broker.purge)


@pytest.mark.long_only("a start of the broker more; a purge loses as much")
async def test_a_broker_that_lost_its_disk_is_filled_again_within_a_minute(
    here: Scene, broker: Hands, rows: Rows
):
    row = rows("F9", "the broker's data directory wiped")

    async def wipe() -> None:
        await broker.wipe()
        await broker.declare()

    async with disturbance(here, row), here.load(per_second=20):
        ids = await backlog(here, 600, latency_s=0.5)
        await lose(here, row, ids, wipe)


@pytest.mark.timeout(2400)
async def test_a_broker_that_dies_again_and_again_loses_nothing_and_is_consumed_each_time(
    here: Scene, broker: Hands, rows: Rows, long: bool, seed: int
):
    chance = random.Random(seed)
    rate, node = 200 if long else 50, broker.node
    killed = rows("F5", "RabbitMQ killed")
    plan = [(killed, node.kill)] * (30 if long else 1)
    if long:
        plan += [(rows("F5", "RabbitMQ stopped and started"), node.stop)] * 5
    chance.shuffle(plan)
    await broker.save_queues()
    outages = Outages(here, node)
    async with disturbance(here, killed):
        async with here.load(per_second=rate):
            for row, take_away in plan:
                await outages.one(row, take_away, chance.uniform(5, 20) if long else 5)
        await outages.over()
    for row in {id(row): row for row, _ in plan}.values():
        row.figures |= {"load_per_s": rate, **outages.figures(row)}
        row.versions, row.survived = killed.versions, outages.survived(row)
        planned = sum(one is row for one, _ in plan)
        assert row.injected == planned, f"{row.void} of {planned} did not happen"
        assert row.survived == row.injected
    killed.figures["restarts_cut_short_by_the_next"] = outages.cut_short
