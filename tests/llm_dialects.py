"""One completion in the wire formats of both dialects, whole and streamed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

PIECES = ("Water ", "runs ", "downhill.")
TEXT = "".join(PIECES)
ARGUMENTS = {"river": "Aare", "metres": 3}


class Dialect(Protocol):
    """How one API says it."""

    name: str
    path: str
    finish: str
    tool_finish: str

    def whole(self, *, tool: bool = False) -> dict[str, Any]: ...

    def events(self, *, tool: bool = False) -> list[bytes]: ...

    def error_event(self) -> bytes: ...


def _data(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@dataclass
class OpenAiDialect:
    name: str = "openai"
    path: str = "/v1/chat/completions"
    finish: str = "stop"
    tool_finish: str = "tool_calls"

    def whole(self, *, tool: bool = False) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None if tool else TEXT}
        if tool:
            message["tool_calls"] = [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "flow", "arguments": json.dumps(ARGUMENTS)},
                }
            ]
        finish = self.tool_finish if tool else self.finish
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
        }

    def events(self, *, tool: bool = False) -> list[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return self._chunk([choice], None)

        def call(**function: str) -> dict[str, Any]:
            named = {"id": "call_1", "type": "function"} if "name" in function else {}
            return {"tool_calls": [{"index": 0, **named, "function": function}]}

        said = json.dumps(ARGUMENTS)
        if tool:
            deltas = [
                call(name="flow", arguments=""),
                call(arguments=said[:9]),
                call(arguments=said[9:]),
            ]
        else:
            deltas = [{"content": piece} for piece in PIECES]
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        return [
            chunk({"role": "assistant", "content": "" if not tool else None}),
            *(chunk(delta) for delta in deltas),
            chunk({}, self.tool_finish if tool else self.finish),
            self._chunk([], usage),
            b"data: [DONE]\n\n",
        ]

    def _chunk(self, choices: list[Any], usage: dict[str, int] | None) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
        return _data({**head, "model": "m-2026", "choices": choices, "usage": usage})

    def error_event(self) -> bytes:
        return _data({"error": {"message": "overloaded", "type": "server_error", "code": None}})


@dataclass
class AnthropicDialect:
    name: str = "anthropic"
    path: str = "/v1/messages"
    finish: str = "end_turn"
    tool_finish: str = "tool_use"

    def whole(self, *, tool: bool = False) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "text", "text": TEXT}
        if tool:
            block = {"type": "tool_use", "id": "call_1", "name": "flow", "input": ARGUMENTS}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m-2026",
            "content": [block],
            "stop_reason": self.tool_finish if tool else self.finish,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 8,
                "cache_creation_input_tokens": 1,
                "cache_read_input_tokens": 2,
                "output_tokens": 5,
            },
        }

    def events(self, *, tool: bool = False) -> list[bytes]:
        whole = self.whole(tool=tool)
        start = {**whole, "content": [], "stop_reason": None}
        start["usage"] = {**whole["usage"], "output_tokens": 1}
        said = json.dumps(ARGUMENTS)
        if tool:
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": "call_1",
                "name": "flow",
                "input": {},
            }
            deltas = [
                {"type": "input_json_delta", "partial_json": part} for part in (said[:9], said[9:])
            ]
        else:
            block = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in PIECES]
        end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        return [
            self._event("message_start", message=start),
            self._event("content_block_start", index=0, content_block=block),
            self._event("ping"),
            *(self._event("content_block_delta", index=0, delta=delta) for delta in deltas),
            self._event("content_block_stop", index=0),
            self._event("message_delta", delta=end, usage={"output_tokens": 5}),
            self._event("message_stop"),
        ]

    def error_event(self) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": "Overloaded"})

    def _event(self, name: str, **fields: Any) -> bytes:
        return f"event: {name}\n".encode() + _data({"type": name, **fields})


DIALECTS: tuple[Dialect, ...] = (OpenAiDialect(), AnthropicDialect())
