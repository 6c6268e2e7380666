"""Every search adapter against the simulated APIs, well and with every fault they know."""

from __future__ import annotations

import asyncio
import json

import pytest

from forebay.errors import ErrorCode
from forebay.jobs import JobKind
from forebay.outcomes import Failed, Outcome, Retry, Succeeded
from forebay.requests import SearchRequest
from loadtest.providers import Kind, Providers
from search_worker.handler import SearchHandler, open_handler
from search_worker.settings import SearchSettings
from tests.jobs_by_hand import running_job

NAMES = ("searxng", "brave", "tavily", "serper")
EVERY = pytest.mark.parametrize("name", NAMES)


async def search(handler: SearchHandler, name: str, query: str, limit: int = 5) -> Outcome:
    job = running_job(JobKind.SEARCH, name, attempts=2)
    return await handler.handle(job, SearchRequest(query=query, limit=limit))


async def test_the_same_pages_are_found_through_every_api(
    world: Providers, search_handler: SearchHandler
) -> None:
    found = {}
    for name in NAMES:
        outcome = await search(search_handler, name, "hydro power")
        assert isinstance(outcome, Succeeded)
        stored = json.loads(outcome.result)
        assert (stored["provider"], stored["query"]) == (name, "hydro power")
        found[name] = [
            (r["position"], r["url"], r["title"], r["snippet"], r["source"])
            for r in stored["results"]
        ]
        assert len(found[name]) == 5
    assert found["searxng"] == found["brave"] == found["tavily"] == found["serper"]
    assert [(call.job_id, call.attempt) for call in world.calls.calls()] == [("job_0199", 2)] * 4


@EVERY
@pytest.mark.parametrize(
    ("fault", "code", "passing", "wish"),
    [
        ("status=500", ErrorCode.PROVIDER_ERROR, True, None),
        ("status=429 retry_after=7", ErrorCode.PROVIDER_RATE_LIMITED, True, 7),
        ("retry_after=http-date:30", ErrorCode.PROVIDER_RATE_LIMITED, True, 29),
        ("retry_after=garbage", ErrorCode.PROVIDER_RATE_LIMITED, True, None),
        ("status=404", ErrorCode.PROVIDER_REJECTED, False, None),
        ("auth", ErrorCode.PROVIDER_AUTH, False, None),
        ("truncate", ErrorCode.PROVIDER_ERROR, True, None),
        ("drop", ErrorCode.PROVIDER_ERROR, True, None),
        ("invalid_json", ErrorCode.PROVIDER_ERROR, True, None),
        ("wrong_shape", ErrorCode.PROVIDER_ERROR, True, None),
        ("huge", ErrorCode.TOO_LARGE, False, None),
        ("endless", ErrorCode.TOO_LARGE, False, None),
    ],
)
async def test_every_fault_is_a_value_after_exactly_one_call(
    world: Providers,
    search_handler: SearchHandler,
    name: str,
    fault: str,
    code: ErrorCode,
    passing: bool,
    wish: int | None,
) -> None:
    outcome = await search(search_handler, name, f"hydro [simulate {fault}]")
    assert isinstance(outcome, Retry if passing else Failed)
    assert outcome.error.code is code
    assert outcome.error.retry_after_s == pytest.approx(wish, abs=1.5)
    [call] = world.calls.calls()
    assert call.fault is not None


@EVERY
@pytest.mark.parametrize("fault", ["hang", "stall"])
async def test_a_silent_api_is_left_when_the_call_is_canceled(
    world: Providers, search_handler: SearchHandler, name: str, fault: str
) -> None:
    call = asyncio.create_task(search(search_handler, name, f"hydro [simulate {fault}]"))
    await world.calls.until(lambda: world.calls.in_flight(Kind.SEARCH) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await world.calls.until(lambda: world.calls.in_flight(Kind.SEARCH) == 0)
    assert world.calls.calls()[0].client_gone


async def test_a_hundred_calls_at_once_share_the_connections_allowed(
    world: Providers, search_settings: SearchSettings
) -> None:
    async with open_handler(search_settings.model_copy(update={"concurrency": 10})) as handler:
        outcomes = await asyncio.gather(
            *(search(handler, NAMES[n % 4], f"hydro {n}") for n in range(100))
        )
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    stats = world.calls.stats()["search"]
    assert stats["calls"] == 100
    assert stats["max_in_flight"] <= 10
