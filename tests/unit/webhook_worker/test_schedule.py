"""A delivery through the real worker, hour after hour of virtual time."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from forebay.errors import ErrorCode, JobError
from forebay.jobs import Event, Job, JobState, WebhookTarget
from forebay.outcomes import Call, Outcome, Retry, Succeeded
from forebay.store import Claimed, Ending, JobQuery
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.memory import MemoryJobStore
from forebay.webhooks.delivery import MOST_ATTEMPTS, SCHEDULE
from forebay.webhooks.notifier import Notifier
from forebay.worker.verdict import judge
from tests.contract.store.jobs import a_job, an_attempt, an_ending, claimed, token_of

MINUTE = 60.0
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DOWN = Retry(JobError(ErrorCode.PROVIDER_ERROR, "The receiver answered 503.", retryable=True))


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


async def attempts(up_at: float | None, chance: float) -> tuple[list[float], Job]:
    """When each attempt was made, in seconds after the job's end, and the delivery at its end."""
    clock = Clock()
    store, endpoints = MemoryJobStore(clock), MemoryEndpointStore()
    job = a_job(notifies=True, webhook=WebhookTarget("https://example.com/"), created_at=START)
    await store.insert([job])
    held = await claimed(store, job)
    ended = await store.finish(job.id, token_of(held), an_ending(held, Event.SUCCEEDED))
    assert ended is not None
    await Notifier(store, endpoints).tell(ended)
    made: list[float] = []
    while True:
        refs = await store.queue_due(10)
        if not refs:
            (delivery,) = await store.list(JobQuery(tenant="default", deliveries=True))
            if delivery.done or delivery.not_before is None:
                return made, delivery
            clock.now = delivery.not_before
            continue
        claim = await store.claim(refs[0], "worker", 30)
        assert isinstance(claim, Claimed)
        at = (clock.now - START).total_seconds()
        made.append(at)
        is_up = up_at is not None and at >= up_at
        outcome: Outcome = Succeeded("{}", Call("webhook", 204)) if is_up else DOWN
        verdict = judge(claim.job, outcome, SCHEDULE, chance)
        ending = Ending(
            event=verdict.event,
            attempt=an_attempt(claim.job),
            result=verdict.result,
            error=verdict.error,
            wait_s=verdict.wait_s,
            dead_lettered=verdict.dead_lettered,
        )
        assert await store.finish(claim.job.id, token_of(claim.job), ending) is not None


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
async def test_a_receiver_that_was_down_for_ten_minutes_hears_of_it(chance: float) -> None:
    made, delivery = await attempts(10 * MINUTE, chance)
    assert delivery.state is JobState.SUCCEEDED
    assert made[-1] >= 10 * MINUTE
    assert made[-1] <= (5 + 300 + 1800) * 1.1
    assert len(made) == 4, "at once, after 5 s, 5 min and 30 min"


async def test_the_whole_schedule_is_kept_and_then_it_is_a_dead_letter() -> None:
    made, delivery = await attempts(None, 0.0)
    waits = [later - earlier for earlier, later in itertools.pairwise(made)]
    hours = [2, 5, 10, 14, 20, 24]
    assert waits == [5, 300, 1800, *(hour * 3600 for hour in hours)]
    assert len(made) == MOST_ATTEMPTS == 10
    assert (delivery.state, delivery.dead_lettered) == (JobState.FAILED, True)


@pytest.mark.parametrize(
    ("attempt", "wish_s", "chance", "wait_s"),
    [
        (1, None, 0.0, 5),
        (1, None, 0.5, 5.25),
        (1, 60.0, 0.0, 60),
        (1, 10**9, 0.0, 86_400),
        (1, -5.0, 0.0, 5),
        (3, 60.0, 0.0, 1800),
        (40, None, 0.0, 86_400),
    ],
)
def test_a_wait_is_the_schedules_or_the_receivers_wish_if_it_is_longer(
    attempt: int, wish_s: float | None, chance: float, wait_s: float
) -> None:
    error = JobError(ErrorCode.PROVIDER_ERROR, "no", retryable=True, retry_after_s=wish_s)
    decision = SCHEDULE.decide(attempt, 100, error, chance)
    assert decision is not None
    assert decision.delay_s == pytest.approx(wait_s)
    assert SCHEDULE.decide(attempt, attempt, error, chance) is None
