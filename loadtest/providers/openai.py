"""The OpenAI-compatible chat endpoint, `POST /v1/chat/completions`, streaming and not.

Shapes: the official SDK's types (ChatCompletion, ChatCompletionChunk, CompletionUsage) and the
API reference's error object. Tools are accepted and never called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from loadtest.providers.behaviour import Kind
from loadtest.providers.conversation import Reply, Turn, prompt_of, reply, turns_of
from loadtest.providers.exchange import (
    Answer,
    Ask,
    Refused,
    as_json,
    bearer,
    json_answer,
    json_object,
    whole_number,
)
from loadtest.providers.text import token

# The same request has the same answer, so the clock is not in it.
_CREATED = 1_750_000_000
_PLACE = "{piece}"
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


@dataclass(frozen=True, slots=True)
class OpenAI:
    """Answers in the OpenAI dialect."""

    seed: int
    name: str = "openai"
    kind: Kind = Kind.LLM
    auth_status: int = 401

    def key_of(self, request: web.Request) -> str | None:
        """Return the bearer token."""
        return bearer(request)

    async def read(self, request: web.Request) -> Ask:
        """Understand a chat completion request; raises Refused."""
        body = await json_object(request)
        if not isinstance(body.get("model"), str):
            raise Refused(400, "you must provide a model parameter")
        turns = turns_of(body.get("messages"))
        limit = _limit(body)
        return Ask(prompt_of(turns), str(Kind.LLM), lambda: self._answer(body, turns, limit))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as OpenAI does."""
        kind, code = _ERRORS.get(status, ("server_error", None))
        error = {"message": message, "type": kind, "param": None, "code": code}
        return json_answer({"error": error}, status, x_request_id="req_simulated")

    def _answer(self, body: dict[str, Any], turns: tuple[Turn, ...], limit: int | None) -> Answer:
        form = body.get("response_format")
        as_object = isinstance(form, dict) and form.get("type") in {"json_object", "json_schema"}
        said = reply(self.seed, turns, limit, as_object=as_object)
        head = {
            "id": "chatcmpl-" + token(self.seed, said.text),
            "created": _CREATED,
            "model": body["model"],
            "system_fingerprint": "fp_" + token(self.seed, length=10),
        }
        if body.get("stream"):
            options = body.get("stream_options") or {}
            return _streamed(head, said, with_usage=bool(options.get("include_usage")))
        message = {"role": "assistant", "content": said.text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _finish(said),
        }
        return json_answer(
            {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(said)},
            x_request_id="req_" + token(self.seed, said.text, "request"),
        )


def _limit(body: dict[str, Any]) -> int | None:
    value = body.get("max_completion_tokens") or body.get("max_tokens")
    if value is None:
        return None
    try:
        return whole_number(value, 0, 1, 1_000_000, "max_tokens")
    except Refused as refusal:
        raise Refused(400, refusal.message) from None


def _streamed(head: dict[str, Any], said: Reply, *, with_usage: bool) -> Answer:
    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        document = {**head, "object": "chat.completion.chunk", "choices": choices}
        if with_usage:
            document["usage"] = usage
        return b"data: " + as_json(document) + b"\n\n"

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]

    events = [chunk(choice({"role": "assistant", "content": "", "refusal": None}))]
    # The chunks differ in one string: spell the rest once.
    before, after = chunk(choice({"content": _PLACE})).split(as_json(_PLACE))
    events.extend(before + as_json(piece) + after for piece in said.pieces())
    events.append(chunk(choice({}, _finish(said))))
    if with_usage:
        events.append(chunk([], _usage(said)))
    events.append(b"data: [DONE]\n\n")
    failure = {
        "error": {
            "message": "The server had an error while processing your request.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
    return Answer(
        content_type="text/event-stream; charset=utf-8",
        events=tuple(events),
        failure_event=b"data: " + as_json(failure) + b"\n\n",
        headers={"x-request-id": "req_" + token(head["id"]), "Cache-Control": "no-cache"},
    )


def _finish(said: Reply) -> str:
    return "length" if said.cut else "stop"


def _usage(said: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.input_tokens + said.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
