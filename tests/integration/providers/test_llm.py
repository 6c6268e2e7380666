"""Both LLM dialects against the simulated APIs, well and with every fault they know."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forebay.errors import ErrorCode
from forebay.jobs import JobKind
from forebay.outcomes import Failed, Outcome, Retry, Succeeded
from forebay.requests import LlmRequest
from llm_worker.handler import LlmHandler, open_handler
from llm_worker.settings import LlmSettings
from loadtest.providers import Kind, Providers
from tests.jobs_by_hand import running_job

NAMES = ("openai", "anthropic")
EVERY = pytest.mark.parametrize("name", NAMES)
STREAMED_OR_NOT = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


async def complete(
    handler: LlmHandler, name: str, prompt: str, *, stream: bool, **fields: Any
) -> Outcome:
    messages = [
        {"role": "system", "content": "Speak of water."},
        {"role": "user", "content": prompt},
    ]
    request = {"model": "small", "messages": messages, "stream": stream, **fields}
    job = running_job(JobKind.LLM, name, attempts=2)
    return await handler.handle(job, LlmRequest.model_validate(request))


@pytest.mark.parametrize("limit", [None, 12])
async def test_streamed_or_not_both_dialects_store_the_same_text_and_usage(
    world: Providers, llm_handler: LlmHandler, limit: int | None
) -> None:
    outcomes = [
        await complete(llm_handler, name, "What is a forebay?", stream=stream, max_tokens=limit)
        for name in NAMES
        for stream in (False, True)
    ]
    results = {outcome.result for outcome in outcomes if isinstance(outcome, Succeeded)}
    usages = {outcome.usage for outcome in outcomes if isinstance(outcome, Succeeded)}
    assert len(outcomes) == 4
    assert len(results) == 1
    [usage] = usages
    stored = json.loads(results.pop())
    assert stored["finish_reason"] == ("stop" if limit is None else "length")
    words = stored["content"].split(" ")
    # The simulated model counts words: 3 of the system prompt, 4 of the question.
    assert (usage.input_tokens, usage.output_tokens) == (7, len(words))
    assert stored["usage"] == {"input_tokens": 7, "output_tokens": len(words)}
    assert [(call.job_id, call.attempt) for call in world.calls.calls()] == [("job_0199", 2)] * 4


@EVERY
@STREAMED_OR_NOT
@pytest.mark.parametrize(
    ("fault", "code", "passing", "wish"),
    [
        ("status=500", ErrorCode.PROVIDER_ERROR, True, None),
        ("status=529", ErrorCode.PROVIDER_ERROR, True, None),
        ("status=429 retry_after=7", ErrorCode.PROVIDER_RATE_LIMITED, True, 7),
        ("retry_after=http-date:30", ErrorCode.PROVIDER_RATE_LIMITED, True, 29),
        ("retry_after=garbage", ErrorCode.PROVIDER_RATE_LIMITED, True, None),
        ("status=400", ErrorCode.PROVIDER_REJECTED, False, None),
        ("auth", ErrorCode.PROVIDER_AUTH, False, None),
        ("truncate", ErrorCode.PROVIDER_ERROR, True, None),
        ("drop", ErrorCode.PROVIDER_ERROR, True, None),
        ("invalid_json", ErrorCode.PROVIDER_ERROR, True, None),
        ("wrong_shape", ErrorCode.PROVIDER_ERROR, True, None),
        ("stream_error", ErrorCode.PROVIDER_ERROR, True, None),
        ("huge", ErrorCode.TOO_LARGE, False, None),
        ("endless", ErrorCode.TOO_LARGE, False, None),
    ],
)
async def test_every_fault_is_a_value_after_exactly_one_call(
    world: Providers,
    llm_settings: LlmSettings,
    name: str,
    stream: bool,
    fault: str,
    code: ErrorCode,
    passing: bool,
    wish: int | None,
) -> None:
    bounded = llm_settings.model_copy(update={"max_response_bytes": 1024 * 1024})
    async with open_handler(bounded) as handler:
        outcome = await complete(handler, name, f"Rain [simulate {fault}]", stream=stream)
    assert isinstance(outcome, Retry if passing else Failed)
    assert outcome.error.code is code
    assert outcome.error.retry_after_s == pytest.approx(wish, abs=1.5)
    [call] = world.calls.calls()
    assert call.fault is not None


@EVERY
@STREAMED_OR_NOT
@pytest.mark.parametrize("fault", ["hang", "stall"])
async def test_a_silent_api_is_left_when_the_call_is_canceled(
    world: Providers, llm_handler: LlmHandler, name: str, stream: bool, fault: str
) -> None:
    call = asyncio.create_task(
        complete(llm_handler, name, f"Rain [simulate {fault}]", stream=stream)
    )
    await world.calls.until(lambda: world.calls.in_flight(Kind.LLM) == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await world.calls.until(lambda: world.calls.in_flight(Kind.LLM) == 0)
    assert world.calls.calls()[0].client_gone


async def test_a_hundred_streams_at_once_share_the_connections_allowed(
    world: Providers, llm_settings: LlmSettings
) -> None:
    async with open_handler(llm_settings.model_copy(update={"concurrency": 10})) as handler:
        outcomes = await asyncio.gather(
            *(complete(handler, NAMES[n % 2], f"Rain {n}", stream=True) for n in range(100))
        )
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    stats = world.calls.stats()["llm"]
    assert stats["calls"] == 100
    assert stats["max_in_flight"] <= 10
