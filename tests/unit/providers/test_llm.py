from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from loadtest.providers import Kind, Providers

SYSTEM = "Answer briefly."
PROMPT = "What does a forebay do for the turbines below it?"


@pytest.fixture
async def openai_client(world: Providers) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{world.providers_url}/openai/v1"
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0, timeout=10) as sdk:
        yield sdk


@pytest.fixture
async def anthropic_client(world: Providers) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"{world.providers_url}/anthropic"
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=url, max_retries=0, timeout=10
    ) as sdk:
        yield sdk


def chat(prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return {"model": "sim-1", "messages": messages, **more}


def message(prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "sim-1", "system": SYSTEM, "messages": messages, "max_tokens": 500, **more}


async def openai_stream(sdk: openai.AsyncOpenAI, **more: Any):
    stream = await sdk.chat.completions.create(
        **chat(**more), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
    return text, finish, chunks[-1].usage


async def test_openai_streams_the_text_and_usage_it_answers_at_once(
    openai_client: openai.AsyncOpenAI,
):
    whole = await openai_client.chat.completions.create(**chat())
    text, finish, usage = await openai_stream(openai_client)
    assert text == whole.choices[0].message.content
    assert finish == whole.choices[0].finish_reason == "stop"
    assert usage == whole.usage
    assert whole.usage.prompt_tokens == len(f"{SYSTEM} {PROMPT}".split())
    assert whole.usage.completion_tokens == len(text.split(" "))


async def test_openai_streams_without_usage_when_it_is_not_asked_for(
    openai_client: openai.AsyncOpenAI,
):
    stream = await openai_client.chat.completions.create(**chat(), stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_anthropic_streams_the_text_and_usage_it_answers_at_once(
    anthropic_client: anthropic.AsyncAnthropic,
):
    whole = await anthropic_client.messages.create(**message())
    async with anthropic_client.messages.stream(**message()) as stream:
        text = await stream.get_final_text()
        final = await stream.get_final_message()
    assert text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens == len(text.split(" "))


async def test_both_dialects_answer_a_prompt_alike(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
):
    one = await openai_client.chat.completions.create(**chat())
    two = await anthropic_client.messages.create(**message())
    assert one.choices[0].message.content == two.content[0].text
    assert one.usage.prompt_tokens == two.usage.input_tokens
    assert one.usage.completion_tokens == two.usage.output_tokens
    other = await openai_client.chat.completions.create(**chat("Another question"))
    assert other.choices[0].message.content != one.choices[0].message.content


async def test_a_token_limit_cuts_both_dialects_at_the_same_word(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
):
    one = await openai_client.chat.completions.create(**chat(max_tokens=5))
    two = await anthropic_client.messages.create(**message(max_tokens=5))
    assert one.choices[0].message.content == two.content[0].text
    assert (one.choices[0].finish_reason, two.stop_reason) == ("length", "max_tokens")
    assert one.usage.completion_tokens == two.usage.output_tokens == 5


async def test_tools_and_a_response_format_are_accepted(openai_client: openai.AsyncOpenAI):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await openai_client.chat.completions.create(
        **chat(tools=[tool], response_format={"type": "json_object"})
    )
    assert answer.choices[0].message.content.startswith('{"answer": ')


@pytest.mark.parametrize(
    ("words", "openai_error", "anthropic_error"),
    [
        ("status=429 retry_after=2", openai.RateLimitError, anthropic.RateLimitError),
        ("status=500", openai.InternalServerError, anthropic.InternalServerError),
        ("status=400", openai.BadRequestError, anthropic.BadRequestError),
        ("drop", openai.APIConnectionError, anthropic.APIConnectionError),
        ("truncate", openai.APIConnectionError, anthropic.APIConnectionError),
    ],
)
async def test_faults_reach_the_sdks_as_their_own_errors(
    openai_client: openai.AsyncOpenAI,
    anthropic_client: anthropic.AsyncAnthropic,
    words: str,
    openai_error: type[Exception],
    anthropic_error: type[Exception],
):
    prompt = f"{PROMPT} [simulate {words}]"
    with pytest.raises(openai_error):
        await openai_client.chat.completions.create(**chat(prompt))
    with pytest.raises(anthropic_error):
        await anthropic_client.messages.create(**message(prompt))


async def test_retry_after_reaches_the_sdks(openai_client: openai.AsyncOpenAI):
    with pytest.raises(openai.RateLimitError) as caught:
        await openai_client.chat.completions.create(**chat(f"{PROMPT} [simulate retry_after=9]"))
    assert caught.value.response.headers["retry-after"] == "9"
    assert caught.value.code == "rate_limit_exceeded"


async def read_openai(openai_client: openai.AsyncOpenAI, prompt: str, into: list[Any]):
    stream = await openai_client.chat.completions.create(**chat(prompt), stream=True)
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 - what came before the break is what is looked at


async def read_anthropic(anthropic_client: anthropic.AsyncAnthropic, prompt: str, into: list[Any]):
    async with anthropic_client.messages.stream(**message(prompt)) as events:
        async for text in events.text_stream:
            into.append(text)  # noqa: PERF401 - as above


async def test_an_error_event_in_a_stream_reaches_the_sdks_after_some_text(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
):
    prompt = f"{PROMPT} [simulate stream_error]"
    chunks: list[Any] = []
    with pytest.raises(openai.APIError, match="server had an error"):
        await read_openai(openai_client, prompt, chunks)
    texts: list[Any] = []
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        await read_anthropic(anthropic_client, prompt, texts)
    assert chunks
    assert texts


async def test_a_stream_that_is_cut_is_an_error_after_some_text(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
):
    prompt = f"{PROMPT} [simulate truncate]"
    chunks: list[Any] = []
    with pytest.raises(openai.APIConnectionError):
        await read_openai(openai_client, prompt, chunks)
    texts: list[Any] = []
    # This SDK passes its transport's own error through.
    with pytest.raises(Exception, match="peer closed connection"):
        await read_anthropic(anthropic_client, prompt, texts)
    assert chunks
    assert texts


async def test_a_wrong_key_is_an_authentication_error_in_both_dialects(world: Providers):
    url = world.providers_url
    openai_client = openai.AsyncOpenAI(api_key="wrong", base_url=f"{url}/openai/v1", max_retries=0)
    async with openai_client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await openai_client.chat.completions.create(**chat())
    assert refused.value.code == "invalid_api_key"
    anthropic_client = anthropic.AsyncAnthropic(
        api_key="wrong", base_url=f"{url}/anthropic", max_retries=0
    )
    async with anthropic_client:
        with pytest.raises(anthropic.AuthenticationError) as denied:
            await anthropic_client.messages.create(**message())
    assert denied.value.body["error"]["type"] == "authentication_error"


async def test_no_key_is_refused_too(world: Providers, client: aiohttp.ClientSession):
    async with client.post(f"{world.providers_url}/openai/v1/chat/completions", json=chat()) as no:
        assert (no.status, (await no.json())["error"]["code"]) == (401, "invalid_api_key")
    async with client.post(f"{world.providers_url}/anthropic/v1/messages", json=message()) as no:
        assert (no.status, (await no.json())["error"]["type"]) == (401, "authentication_error")


async def test_a_caller_that_gives_up_is_logged_as_gone(
    world: Providers, openai_client: openai.AsyncOpenAI
):
    prompt = f"{PROMPT} [simulate hang]"
    headers = {"X-Request-ID": "job_h.1"}
    call = asyncio.ensure_future(
        openai_client.chat.completions.create(**chat(prompt), extra_headers=headers)
    )
    await world.calls.until(lambda: world.calls.in_flight(Kind.LLM) == 1)
    call.cancel()
    await world.calls.until(lambda: world.calls.in_flight(Kind.LLM) == 0)
    (logged,) = world.calls.calls(job="job_h")
    assert (logged.client_gone, logged.status, logged.fault) == (True, None, "hang")
