"""One call a job, in either dialect, streamed or not; over a real local server."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from aiohttp import web

from forebay.errors import ErrorCode
from forebay.jobs import JobKind, Usage
from forebay.outcomes import Call, Failed, Outcome, Retry, Succeeded
from forebay.requests import LlmRequest
from llm_worker.handler import LlmHandler, open_handler
from llm_worker.settings import LlmSettings
from tests.jobs_by_hand import running_job
from tests.llm_dialects import ARGUMENTS, DIALECTS, TEXT, Dialect
from tests.local_api import LocalApi

EITHER = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
STREAMED_OR_NOT = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def asked(*, stream: bool = False, **fields: Any) -> LlmRequest:
    messages = [{"role": "user", "content": "Where does water run?"}]
    return LlmRequest.model_validate(
        {"model": "m", "messages": messages, "stream": stream, **fields}
    )


async def complete(
    handler: LlmHandler, dialect: Dialect, request: LlmRequest | None = None, **fields: Any
) -> Outcome:
    job = running_job(JobKind.LLM, dialect.name, attempts=2)
    return await handler.handle(job, request or asked(**fields))


def says(api: LocalApi, dialect: Dialect, *, stream: bool, tool: bool = False) -> None:
    if stream:
        api.streams(dialect.events(tool=tool))
    else:
        api.answers(dialect.whole(tool=tool))


@EITHER
async def test_streamed_or_not_the_same_is_stored(
    api: LocalApi, handler: LlmHandler, dialect: Dialect
) -> None:
    outcomes = []
    for stream in (False, True):
        says(api, dialect, stream=stream)
        outcomes.append(await complete(handler, dialect, stream=stream))
    whole, streamed = outcomes
    assert isinstance(whole, Succeeded)
    assert isinstance(streamed, Succeeded)
    assert whole.result == streamed.result
    assert whole.usage == streamed.usage == Usage(11, 5)
    assert json.loads(whole.result) == {
        "model": "m-2026",
        "content": TEXT,
        "finish_reason": "stop",
        "tool_calls": None,
        "refusal": None,
        "usage": {"input_tokens": 11, "output_tokens": 5},
    }
    assert [seen.path for seen in api.seen] == [dialect.path] * 2
    assert [seen.headers["X-Request-ID"] for seen in api.seen] == ["job_0199.2"] * 2
    assert [seen.json.get("stream", False) for seen in api.seen] == [False, True]


@EITHER
async def test_tool_calls_are_stored_the_same_streamed_or_not(
    api: LocalApi, handler: LlmHandler, dialect: Dialect
) -> None:
    results = []
    for stream in (False, True):
        says(api, dialect, stream=stream, tool=True)
        outcome = await complete(handler, dialect, stream=stream)
        assert isinstance(outcome, Succeeded)
        results.append(outcome.result)
    assert results[0] == results[1]
    stored = json.loads(results[0])
    assert (stored["content"], stored["finish_reason"]) == (None, "tool_calls")
    [call] = stored["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "flow")
    assert json.loads(call["function"]["arguments"]) == ARGUMENTS


async def test_the_request_reaches_openai_as_it_was_written(
    api: LocalApi, handler: LlmHandler
) -> None:
    says(api, DIALECTS[0], stream=True)
    tools = [{"type": "function", "function": {"name": "flow", "parameters": {"x": None}}}]
    form = {"type": "json_object"}
    await complete(
        handler,
        DIALECTS[0],
        stream=True,
        max_tokens=9,
        temperature=1.5,
        tools=tools,
        response_format=form,
    )
    [seen] = api.seen
    assert seen.headers["Authorization"] == "Bearer openai-key"
    assert seen.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "Where does water run?"}],
        "max_tokens": 9,
        "temperature": 1.5,
        "tools": tools,
        "response_format": form,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_request_reaches_anthropic_in_its_words(
    api: LocalApi, handler: LlmHandler
) -> None:
    says(api, DIALECTS[1], stream=False)
    # So many tokens without a stream, the SDK by itself would not ask for.
    outcome = await complete(handler, DIALECTS[1], max_tokens=100_000, temperature=0.5)
    assert isinstance(outcome, Succeeded)
    [seen] = api.seen
    assert "anthropic-key" in {seen.headers.get("x-api-key"), seen.headers["Authorization"][7:]}
    assert seen.json == {
        "model": "m",
        "max_tokens": 100_000,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Where does water run?"}]}
        ],
        "temperature": 0.5,
        "stream": False,
    }


async def test_the_environment_of_the_sdks_is_not_read(
    api: LocalApi, settings: LlmSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "ambient")
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with open_handler(settings) as handler:
        for dialect in DIALECTS:
            says(api, dialect, stream=False)
            assert isinstance(await complete(handler, dialect), Succeeded)
    assert not [seen for seen in api.seen if "ambient" in str(seen.headers)]


async def test_what_anthropic_cannot_do_is_refused_without_a_call(
    api: LocalApi, handler: LlmHandler
) -> None:
    outcome = await complete(handler, DIALECTS[1], response_format={"type": "json_object"})
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED
    assert "in the prompt" in outcome.error.detail
    assert not api.seen


@EITHER
@STREAMED_OR_NOT
@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (302, ErrorCode.PROVIDER_REJECTED, False),
        (400, ErrorCode.PROVIDER_REJECTED, False),
        (401, ErrorCode.PROVIDER_AUTH, False),
        (402, ErrorCode.PROVIDER_AUTH, False),
        (403, ErrorCode.PROVIDER_AUTH, False),
        (404, ErrorCode.PROVIDER_REJECTED, False),
        (408, ErrorCode.PROVIDER_TIMEOUT, True),
        (409, ErrorCode.PROVIDER_ERROR, True),
        (413, ErrorCode.PROVIDER_REJECTED, False),
        (422, ErrorCode.PROVIDER_REJECTED, False),
        (429, ErrorCode.PROVIDER_RATE_LIMITED, True),
        (500, ErrorCode.PROVIDER_ERROR, True),
        (503, ErrorCode.PROVIDER_ERROR, True),
        (529, ErrorCode.PROVIDER_ERROR, True),
    ],
)
async def test_a_refusal_is_a_value_after_exactly_one_call(
    api: LocalApi,
    handler: LlmHandler,
    dialect: Dialect,
    stream: bool,
    status: int,
    code: ErrorCode,
    passing: bool,
) -> None:
    headers = {"x_request_id": "req-1", "request_id": "req-1", "Retry_After": "7"}
    api.answers({"error": {"message": "no"}}, status, Location="http://127.0.0.1:9/", **headers)
    outcome = await complete(handler, dialect, stream=stream)
    assert isinstance(outcome, Retry if passing else Failed)
    assert (outcome.error.code, outcome.error.retryable) == (code, passing)
    assert outcome.error.retry_after_s == (7 if passing else None)
    assert outcome.call == Call(dialect.name, status, "req-1")
    assert len(api.seen) == 1


async def test_a_used_up_quota_is_no_rate_limit(api: LocalApi, handler: LlmHandler) -> None:
    api.answers({"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, 429)
    outcome = await complete(handler, DIALECTS[0])
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH
    assert "credit" in outcome.error.detail


@EITHER
async def test_a_stream_cut_anywhere_is_never_stored(
    api: LocalApi, handler: LlmHandler, dialect: Dialect
) -> None:
    events = dialect.events()
    text_ends = next(n for n, event in enumerate(events) if b"downhill" in event)
    for kept in range(text_ends + 2):
        api.streams(events[:kept])
        outcome = await complete(handler, dialect, stream=True)
        assert isinstance(outcome, Retry), kept
        assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert len(api.seen) == text_ends + 2


async def test_an_anthropic_stream_without_its_last_event_is_never_stored(
    api: LocalApi, handler: LlmHandler
) -> None:
    api.streams(DIALECTS[1].events()[:-1])
    assert isinstance(await complete(handler, DIALECTS[1], stream=True), Retry)


async def test_a_server_that_does_not_count_is_believed_its_text(
    api: LocalApi, handler: LlmHandler
) -> None:
    events = [event for event in DIALECTS[0].events() if b'"prompt_tokens"' not in event]
    api.streams(events)
    outcome = await complete(handler, DIALECTS[0], stream=True)
    assert isinstance(outcome, Succeeded)
    assert json.loads(outcome.result)["usage"] is None
    assert outcome.usage == Usage()


@EITHER
@STREAMED_OR_NOT
async def test_a_connection_that_breaks_can_pass(
    api: LocalApi, handler: LlmHandler, dialect: Dialect, stream: bool
) -> None:
    half = b"".join(dialect.events()[:4]) if stream else json.dumps(dialect.whole()).encode()[:50]

    async def broken(request: web.Request) -> web.StreamResponse:
        kind = "text/event-stream" if stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": "9000"})
        await response.prepare(request)
        await response.write(half)
        assert request.transport is not None
        request.transport.close()
        return response

    api.respond = broken
    outcome = await complete(handler, dialect, stream=stream)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert len(api.seen) == 1


@EITHER
async def test_an_error_inside_a_stream_can_pass(
    api: LocalApi, handler: LlmHandler, dialect: Dialect
) -> None:
    api.streams([*dialect.events()[:4], dialect.error_event()])
    outcome = await complete(handler, dialect, stream=True)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert "in the middle" in outcome.error.detail
    assert len(api.seen) == 1


@EITHER
@STREAMED_OR_NOT
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b'{"a":[1]}',
        b"[]",
        b"null",
        b'{"model":"m","choices":[],"content":{},"usage":{}}',
        b'{"model":"m","choices":[{"message":{"content":[1]}}],"content":[1],"usage":7}',
        b'{"choices":' + b"[" * 20_000,
        b'data: {"choices":7}\n\ndata: [DONE]\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
        b'event: x\ndata: {"type":"content_block_delta","index":3,"delta":{}}\n\n',
    ],
)
async def test_an_unreadable_answer_can_pass(
    api: LocalApi, handler: LlmHandler, dialect: Dialect, stream: bool, body: bytes
) -> None:
    for kind in ("application/json", "text/event-stream"):
        api.answers(body, Content_Type=kind)
        outcome = await complete(handler, dialect, stream=stream)
        assert isinstance(outcome, Retry)
        assert outcome.error.code is ErrorCode.PROVIDER_ERROR
        assert outcome.call is not None
        assert outcome.call.http_status == 200
    assert len(api.seen) == 2


@EITHER
@STREAMED_OR_NOT
async def test_an_answer_over_the_limit_is_not_read_on(
    api: LocalApi, handler: LlmHandler, dialect: Dialect, stream: bool
) -> None:
    async def long(request: web.Request) -> web.StreamResponse:
        kind = "text/event-stream" if stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for _ in range(400):  # some 4 MB: enough to be noticed, not enough to hurt
            await response.write(b": padding\n\n" * 1000)
            await asyncio.sleep(0)
        return response

    api.respond = long
    outcome = await complete(handler, dialect, stream=stream)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.TOO_LARGE
    assert "65536 bytes" in outcome.error.detail


@EITHER
async def test_compression_is_not_asked_for_and_not_expanded(
    api: LocalApi, handler: LlmHandler, dialect: Dialect
) -> None:
    api.answers(gzip.compress(b" " * 10_000_000), Content_Encoding="gzip")
    outcome = await complete(handler, dialect)
    assert isinstance(outcome, Retry)
    assert "coding" in outcome.error.detail
    assert api.seen[0].headers["Accept-Encoding"] == "identity"


@EITHER
@STREAMED_OR_NOT
async def test_a_canceled_call_passes_on_the_cancellation_and_hangs_up(
    api: LocalApi, handler: LlmHandler, dialect: Dialect, stream: bool
) -> None:
    if stream:
        api.streams(dialect.events()[:4], hold=True)
    else:
        api.hangs()
    call = asyncio.create_task(complete(handler, dialect, stream=stream))
    await api.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await api.gone.wait()


@EITHER
@STREAMED_OR_NOT
async def test_a_server_that_falls_silent_ends_in_a_timeout(
    api: LocalApi, settings: LlmSettings, dialect: Dialect, stream: bool
) -> None:
    if stream:
        api.streams(dialect.events()[:4], hold=True)
    else:
        api.hangs()
    async with open_handler(settings.model_copy(update={"timeout_s": 0.2})) as handler:
        outcome = await complete(handler, dialect, stream=stream)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_TIMEOUT
    assert len(api.seen) == 1


@EITHER
async def test_nobody_listening_can_pass(settings: LlmSettings, dialect: Dialect) -> None:
    closed = "http://127.0.0.1:1"
    update = {"base_url": closed, "anthropic_base_url": closed}
    async with open_handler(settings.model_copy(update=update)) as handler:
        outcome = await complete(handler, dialect)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR


@pytest.mark.parametrize(
    ("order", "setting"),
    [
        ((), "FOREBAY_LLM_OPENAI_API_KEY"),
        (("openai",), "FOREBAY_LLM_OPENAI_API_KEY"),
        (("anthropic",), "FOREBAY_LLM_ANTHROPIC_API_KEY"),
    ],
)
async def test_a_missing_key_fails_the_job_and_is_named(
    order: tuple[str, ...], setting: str
) -> None:
    async with open_handler(LlmSettings()) as handler:
        outcome = await handler.handle(running_job(JobKind.LLM, *order), asked())
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH
    assert f"{setting} is not set" in outcome.error.detail


async def test_the_worker_says_which_provider_is_the_default(
    api: LocalApi, settings: LlmSettings
) -> None:
    says(api, DIALECTS[1], stream=False)
    chosen = LlmSettings.model_validate({**settings.model_dump(), "provider": "anthropic"})
    async with open_handler(chosen) as handler:
        outcome = await handler.handle(running_job(JobKind.LLM), asked())
    assert isinstance(outcome, Succeeded)
    assert outcome.call.provider == "anthropic"
