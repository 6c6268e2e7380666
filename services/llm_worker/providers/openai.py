"""OpenAI's chat completions, and everything that speaks the same: Azure, vLLM, Ollama, gateways."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx2
import openai
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from forebay.http import REQUEST_ID_HEADER
from forebay.outcomes import Call, Failed, Retry, Succeeded
from forebay.progress import Write
from forebay.requests import FunctionCall, LlmRequest, ToolCall
from llm_worker.carrier import CarriedError
from llm_worker.completion import Completion, TokenUsage
from llm_worker.providers import ProviderName
from llm_worker.refusals import (
    UNREADABLE,
    broken,
    incomplete,
    interrupted,
    no_credit,
    refused,
    unreadable,
)
from llm_worker.settings import TokenLimitField


class _Shape(BaseModel):
    """The SDK builds its objects without checking them, so what is used of them is checked here."""

    model_config = ConfigDict(from_attributes=True)


class _Function(_Shape):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(_Shape):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(_Shape):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Usage(_Shape):
    prompt_tokens: int
    completion_tokens: int


class _Choice(_Shape):
    message: _Said
    finish_reason: str


class _Answer(_Shape):
    model: str
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _ChunkChoice(_Shape):
    index: int = 0
    delta: _Said | None = None
    finish_reason: str | None = None


class _Chunk(_Shape):
    model: str
    choices: list[_ChunkChoice]
    usage: _Usage | None = None


class OpenAI:
    """An OpenAI-shaped API.

    Args:
        url: base URL, `/v1` included.
        key: sent as a bearer token.
        http_client: from `sdk_client`.
        token_field: how the API is told the longest answer.
    """

    name = ProviderName.OPENAI.value

    def __init__(
        self,
        url: str,
        key: SecretStr | None,
        http_client: httpx2.AsyncClient,
        token_field: TokenLimitField,
    ) -> None:
        self._key = key
        self._token_field = token_field
        self._sdk = openai.AsyncOpenAI(
            api_key=key.get_secret_value() if key else "",
            admin_api_key="",
            base_url=url,
            max_retries=0,  # attempts are counted by the store
            http_client=http_client,
            _enforce_credentials=False,
        )
        # Our settings are the only source: not what OPENAI_ORG_ID or OPENAI_PROJECT_ID say.
        self._sdk.organization = None
        self._sdk.project = None

    @property
    def missing_setting(self) -> str | None:
        """It needs a key, even if the server behind the URL takes any."""
        return None if self._key else "FOREBAY_LLM_OPENAI_API_KEY"

    async def complete(
        self, request: LlmRequest, call_id: str, write: Write
    ) -> Succeeded | Retry | Failed:
        """Ask for one completion, streamed or whole as the request says."""
        try:
            raw = await self._sdk.chat.completions.with_raw_response.create(
                **_parameters(request, self._token_field),
                extra_headers={REQUEST_ID_HEADER: call_id},
            )
        except openai.APIStatusError as error:
            return _refused(error)
        except (openai.OpenAIError, CarriedError) as error:
            return broken(error, Call(self.name))
        return await _read(raw, Call(self.name, raw.status_code, raw.request_id), write)


async def _read(raw: Any, call: Call, write: Write) -> Succeeded | Retry | Failed:
    try:
        answer = raw.parse()
        if not isinstance(answer, openai.AsyncStream):
            return _whole(_Answer.model_validate(answer)).succeeded(call)
        async with answer:
            return await _streamed(answer, call, write)
    except (openai.OpenAIError, CarriedError) as error:
        # Without a cause it is an error object that the provider sent inside its stream.
        return broken(error, call) if error.__cause__ else interrupted(call)
    except UNREADABLE:
        return unreadable(call)


def _parameters(request: LlmRequest, token_field: TokenLimitField) -> dict[str, Any]:
    parameters = request.model_dump(mode="json", exclude_none=True)
    if "max_tokens" in parameters:
        parameters[token_field.value] = parameters.pop("max_tokens")
    if request.stream:
        # Without it a stream carries no usage.
        parameters["stream_options"] = {"include_usage": True}
    return parameters


def _refused(error: openai.APIStatusError) -> Retry | Failed:
    call = Call(OpenAI.name, error.status_code, error.request_id)
    # The status is 429, of something that no waiting mends.
    if "insufficient_quota" in (error.code, error.type):
        return no_credit(call)
    return refused(call, error.response.headers)


def _whole(answer: _Answer) -> Completion:
    choice = answer.choices[0]
    return Completion.of(
        model=answer.model,
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        tool_calls=_tool_calls(choice.message.tool_calls or ()),
        refusal=choice.message.refusal or "",
        usage=_counted(answer.usage),
    )


async def _streamed(stream: openai.AsyncStream[Any], call: Call, write: Write) -> Succeeded | Retry:
    gathered = _Gathered(write)
    async for chunk in stream:
        gathered.add(_Chunk.model_validate(chunk))
    completion = gathered.completion()
    return incomplete(call) if completion is None else completion.succeeded(call)


class _Gathered:
    """The pieces of a streamed answer so far."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._model = ""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[int, _ToolCall] = {}
        self._finish_reason: str | None = None
        self._usage: _Usage | None = None

    def add(self, chunk: _Chunk) -> None:
        self._model = self._model or chunk.model
        # Some servers count with every chunk: the last count is the whole.
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            self._finish_reason = choice.finish_reason or self._finish_reason
            if choice.delta is not None:
                self._add(choice.delta)

    def _add(self, delta: _Said) -> None:
        if delta.content:
            self._text.append(delta.content)
            self._write(delta.content)
        self._refusal.append(delta.refusal or "")
        for piece in delta.tool_calls or ():
            at = piece.index if piece.index is not None else len(self._tools)
            known = self._tools.setdefault(at, _ToolCall(function=_Function()))
            known.id = known.id or piece.id
            if known.function is not None and piece.function is not None:
                known.function.name = known.function.name or piece.function.name
                known.function.arguments = (known.function.arguments or "") + (
                    piece.function.arguments or ""
                )

    def completion(self) -> Completion | None:
        """The whole, or None when the end never came."""
        if self._finish_reason is None:
            return None
        return Completion.of(
            model=self._model,
            text="".join(self._text),
            finish_reason=self._finish_reason,
            tool_calls=_tool_calls(self._tools[at] for at in sorted(self._tools)),
            refusal="".join(self._refusal),
            usage=_counted(self._usage),
        )


def _tool_calls(said: Iterable[_ToolCall]) -> tuple[ToolCall, ...]:
    """Checked by the model they are stored in; raises `ValueError` when a part is missing."""
    return tuple(
        ToolCall.model_validate(
            {
                "id": call.id,
                "function": FunctionCall.model_validate(
                    {
                        "name": call.function.name if call.function else None,
                        "arguments": (call.function.arguments if call.function else None) or "",
                    }
                ),
            }
        )
        for call in said
    )


def _counted(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    return TokenUsage(input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
