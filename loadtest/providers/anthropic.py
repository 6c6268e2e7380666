"""The Anthropic-compatible endpoint, `POST /v1/messages`, streaming and not.

Shapes: the official SDK's types (Message, Usage, the RawMessage* stream events, ErrorResponse).
`anthropic-version` and `max_tokens` are required, as there. Tools are accepted and never called.
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

_PLACE = "{piece}"
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Anthropic:
    """Answers in the Anthropic dialect."""

    seed: int
    name: str = "anthropic"
    kind: Kind = Kind.LLM
    auth_status: int = 401

    def key_of(self, request: web.Request) -> str | None:
        """Return the `x-api-key` header, or a bearer token, which is accepted too."""
        return request.headers.get("x-api-key") or bearer(request)

    async def read(self, request: web.Request) -> Ask:
        """Understand a messages request; raises Refused."""
        if "anthropic-version" not in request.headers:
            raise Refused(400, "anthropic-version: header is required")
        body = await json_object(request)
        if not isinstance(body.get("model"), str):
            raise Refused(400, "model: Field required")
        turns = turns_of(body.get("messages"), body.get("system"))
        limit = _limit(body)
        return Ask(prompt_of(turns), str(Kind.LLM), lambda: self._answer(body, turns, limit))

    def error(self, status: int, message: str) -> Answer:
        """Word an error as Anthropic does."""
        error = {"type": _ERRORS.get(status, "api_error"), "message": message}
        document = {"type": "error", "error": error, "request_id": "req_simulated"}
        return json_answer(document, status, request_id="req_simulated")

    def _answer(self, body: dict[str, Any], turns: tuple[Turn, ...], limit: int) -> Answer:
        said = reply(self.seed, turns, limit, as_object=False)
        message = {
            "id": "msg_" + token(self.seed, said.text),
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": said.text}],
            "stop_reason": _stop(said),
            "stop_sequence": None,
            "usage": _usage(said.input_tokens, said.output_tokens),
        }
        if body.get("stream"):
            return _streamed(message, said)
        return json_answer(message, request_id="req_" + token(self.seed, said.text))


def _limit(body: dict[str, Any]) -> int:
    if body.get("max_tokens") is None:
        raise Refused(400, "max_tokens: Field required")
    try:
        return whole_number(body["max_tokens"], 0, 1, 1_000_000, "max_tokens")
    except Refused as refusal:
        raise Refused(400, refusal.message) from None


def _streamed(message: dict[str, Any], said: Reply) -> Answer:
    start = {
        **message,
        "content": [],
        "stop_reason": None,
        "usage": _usage(said.input_tokens, 1),
    }
    block = {"type": "text", "text": ""}
    delta = {"stop_reason": _stop(said), "stop_sequence": None}
    usage = _usage(said.input_tokens, said.output_tokens)
    # The deltas differ in one string: spell the rest once.
    piece_event = _event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": _PLACE}
    )
    before, after = piece_event.split(as_json(_PLACE))
    events = (
        _event("message_start", message=start),
        _event("content_block_start", index=0, content_block=block),
        _event("ping"),
        *(before + as_json(piece) + after for piece in said.pieces()),
        _event("content_block_stop", index=0),
        _event("message_delta", delta=delta, usage=usage),
        _event("message_stop"),
    )
    return Answer(
        content_type="text/event-stream; charset=utf-8",
        events=events,
        failure_event=_event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        headers={"request-id": "req_" + token(message["id"]), "Cache-Control": "no-cache"},
    )


def _event(name: str, **fields: object) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + as_json({"type": name, **fields}) + b"\n\n"


def _stop(said: Reply) -> str:
    return "max_tokens" if said.cut else "end_turn"


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }
