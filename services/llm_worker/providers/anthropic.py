"""Anthropic's messages API."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
from pydantic import BaseModel, ConfigDict, SecretStr

from forebay.errors import ErrorCode, JobError
from forebay.http import REQUEST_ID_HEADER
from forebay.outcomes import Call, Failed, Retry, Succeeded
from forebay.progress import Write
from forebay.requests import FunctionCall, LlmRequest, ToolCall
from llm_worker.carrier import CarriedError
from llm_worker.completion import Completion, TokenUsage
from llm_worker.providers import ProviderName
from llm_worker.providers.anthropic_messages import Unsupported, parameters
from llm_worker.refusals import (
    UNREADABLE,
    broken,
    incomplete,
    interrupted,
    refused,
    unreadable,
)

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Shape(BaseModel):
    """The SDK builds its objects without checking them, so what is used of them is checked here."""

    model_config = ConfigDict(from_attributes=True)


class _Usage(_Shape):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Block(_Shape):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Message(_Shape):
    model: str
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage


class _Delta(_Shape):
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(_Shape):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


class Anthropic:
    """An Anthropic-shaped API.

    Args:
        url: base URL, without `/v1`.
        key: the API key.
        http_client: from `sdk_client`.
        max_tokens: longest answer for requests that do not say.
    """

    name = ProviderName.ANTHROPIC.value

    def __init__(
        self,
        url: str,
        key: SecretStr | None,
        http_client: httpx2.AsyncClient,
        max_tokens: int,
    ) -> None:
        self._key = key
        self._max_tokens = max_tokens
        self._sdk = anthropic.AsyncAnthropic(
            # Never None: the SDK would look for keys in the environment and in files.
            api_key=key.get_secret_value() if key else "",
            base_url=url,
            timeout=None,  # our client's timeouts hold
            max_retries=0,  # attempts are counted by the store
            open_telemetry=False,
            http_client=http_client,
        )

    @property
    def missing_setting(self) -> str | None:
        """It needs a key."""
        return None if self._key else "FOREBAY_LLM_ANTHROPIC_API_KEY"

    async def complete(
        self, request: LlmRequest, call_id: str, write: Write
    ) -> Succeeded | Retry | Failed:
        """Ask for one message, streamed or whole as the request says."""
        call = Call(self.name)
        try:
            said = parameters(request, self._max_tokens)
        except Unsupported as reason:
            detail = f"{self.name} cannot do this: {reason}."
            return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
        try:
            raw = await self._sdk.messages.with_raw_response.create(
                **said, stream=request.stream, extra_headers={REQUEST_ID_HEADER: call_id}
            )
        except anthropic.APIStatusError as error:
            call = Call(self.name, error.status_code, error.request_id)
            return refused(call, error.response.headers)
        except (anthropic.AnthropicError, CarriedError) as error:
            return broken(error, call)
        return await _read(raw, Call(self.name, raw.status_code, raw.request_id), write)


async def _read(
    raw: anthropic.AsyncAPIResponse[Any], call: Call, write: Write
) -> Succeeded | Retry | Failed:
    try:
        answer = await raw.parse()
        if not isinstance(answer, anthropic.AsyncStream):
            message = _Message.model_validate(answer)
            return _finished(message, _text(message.content), call)
        async with answer:
            return await _streamed(answer, call, write)
    except anthropic.APIStatusError:
        return interrupted(call)  # an error event inside a stream that began well
    except (anthropic.AnthropicError, CarriedError) as error:
        return broken(error, call)
    except UNREADABLE:
        return unreadable(call)


async def _streamed(
    stream: anthropic.AsyncStream[Any], call: Call, write: Write
) -> Succeeded | Retry:
    gathered = _Gathered(write)
    async for event in stream:
        gathered.add(_Event.model_validate(event))
    message = gathered.message()
    return incomplete(call) if message is None else _finished(message, gathered.text, call)


class _Gathered:
    """The message a stream has told so far."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._pieces: list[str] = []
        self._message: _Message | None = None
        self._blocks: dict[int, _Block] = {}
        self._arguments: dict[int, str] = {}
        self._stopped = False

    def add(self, event: _Event) -> None:
        if event.type == "message_start":
            self._message = event.message
        elif event.type == "content_block_start" and event.content_block is not None:
            self._blocks[event.index] = event.content_block
            self._tell(event.content_block, event.content_block.text)
        elif event.type == "content_block_delta" and event.delta is not None:
            self._tell(self._blocks[event.index], event.delta.text)
            self._arguments.setdefault(event.index, "")
            self._arguments[event.index] += event.delta.partial_json
        elif event.type == "message_delta":
            self._end(event)
        elif event.type == "message_stop":
            self._stopped = True

    def _tell(self, block: _Block, text: str) -> None:
        if text and block.type == "text":
            self._pieces.append(text)
            self._write(text)

    @property
    def text(self) -> str:
        """In the order in which it came: what was told is what is stored."""
        return "".join(self._pieces)

    def _end(self, event: _Event) -> None:
        if self._message is None:
            return
        if event.delta is not None:
            self._message.stop_reason = event.delta.stop_reason
        if event.usage is not None:
            # Counts here are cumulative; those it leaves out stand as the start gave them.
            counted = event.usage.model_dump(exclude_none=True)
            self._message.usage = self._message.usage.model_copy(update=counted)

    def message(self) -> _Message | None:
        """The whole, or None when the end never came."""
        if self._message is None or not self._stopped:
            return None
        for index, block in self._blocks.items():
            if block.type == "tool_use" and self._arguments.get(index):
                block.input = _as_object(self._arguments[index])
        self._message.content = [self._blocks[index] for index in sorted(self._blocks)]
        return self._message


def _text(blocks: list[_Block]) -> str:
    return "".join(block.text for block in blocks if block.type == "text")


def _finished(message: _Message, text: str, call: Call) -> Succeeded | Retry:
    if message.stop_reason is None:
        return incomplete(call)
    completion = Completion.of(
        model=message.model,
        text=text,
        finish_reason=_FINISH_REASONS.get(message.stop_reason, message.stop_reason),
        tool_calls=tuple(_tool_call(b) for b in message.content if b.type == "tool_use"),
        usage=_counted(message.usage),
    )
    return completion.succeeded(call)


def _tool_call(block: _Block) -> ToolCall:
    said = block.input
    text = said if isinstance(said, str) else json.dumps(said or {}, ensure_ascii=False)
    return ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=text))


def _as_object(arguments: str) -> Any:
    """As an object, so that it is written as in an answer that came whole; cut JSON stays text."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _counted(usage: _Usage) -> TokenUsage | None:
    """Tokens written to and read from the cache are counted apart; they are input all the same."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return TokenUsage(input_tokens=usage.input_tokens + cached, output_tokens=usage.output_tokens)
