"""A conversation in the shape of chat completions, said in the shape of Anthropic's messages.

What cannot be said there is refused with `Unsupported` and what to do, never left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from forebay.requests import ImagePart, LlmRequest, Message, TextPart, ToolCall

Block = dict[str, Any]


class Unsupported(Exception):
    """The request asks for what this API does not offer; the message says what to do."""


def parameters(request: LlmRequest, default_max_tokens: int) -> dict[str, Any]:
    """The arguments of `messages.create`; raises `Unsupported`."""
    said: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens or default_max_tokens,
        "messages": _turns(request.messages),
    }
    system = _system(request.messages)
    if system:
        said["system"] = system
    if request.temperature is not None:
        if request.temperature > 1:
            raise Unsupported("`temperature` goes up to 1 there; ask for 1 or less")
        # Older models take it; the SDK has no argument for it any more.
        said["extra_body"] = {"temperature": request.temperature}
    if request.tools:
        said["tools"] = [_tool(tool) for tool in request.tools]
    output = _output_format(request.response_format)
    if output is not None:
        said["output_config"] = {"format": output}
    return said


def _system(messages: tuple[Message, ...]) -> str:
    texts = [_plain(message) for message in messages if message.role in {"system", "developer"}]
    return "\n\n".join(text for text in texts if text)


def _plain(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = message.content or ()
    if any(isinstance(part, ImagePart) for part in parts):
        raise Unsupported(f"a {message.role} message cannot hold pictures; send them as the user")
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """User and assistant in turn: what follows one another in one role is one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role in {"system", "developer"}:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if not blocks:
            raise Unsupported(f"a {message.role} message without content cannot be sent")
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise Unsupported("a conversation needs a user message, not system messages alone")
    return turns


def _blocks(message: Message) -> list[Block]:
    if message.role == "tool":
        if message.tool_call_id is None:
            raise Unsupported("a tool message needs the `tool_call_id` it answers")
        return [
            {
                "type": "tool_result",
                "tool_use_id": message.tool_call_id,
                "content": _content(message),
            }
        ]
    if message.name is not None:
        raise Unsupported("messages have no `name` there; put it in the text")
    if message.role == "assistant":
        text = _plain(message)
        said: list[Block] = [{"type": "text", "text": text}] if text else []
        return [*said, *(_tool_use(call) for call in message.tool_calls or ())]
    return _content(message)


def _content(message: Message) -> list[Block]:
    if isinstance(message.content, str):
        # An empty text block is refused there.
        return [{"type": "text", "text": message.content}] if message.content else []
    return [_part(part) for part in message.content or ()]


def _part(part: TextPart | ImagePart) -> Block:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    url = part.image_url.url
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        raise Unsupported("a picture in a data URL must be base64: data:image/png;base64,...")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _tool_use(call: ToolCall) -> Block:
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Unsupported("the `arguments` of a tool call must be a JSON object")
    return {"type": "tool_use", "id": call.id, "name": call.function.name, "input": arguments}


def _tool(tool: Mapping[str, Any]) -> Block:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping):
        raise Unsupported('tools must be of the form {"type": "function", "function": {...}}')
    said: Block = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for field in ("description", "strict"):
        if function.get(field) is not None:
            said[field] = function[field]
    return said


def _output_format(wanted: Mapping[str, Any] | None) -> Block | None:
    if wanted is None or wanted.get("type") == "text":
        return None
    inner = wanted.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if wanted.get("type") == "json_schema" and isinstance(schema, Mapping):
        return {"type": "json_schema", "schema": dict(schema)}
    raise Unsupported(
        "`response_format` can be json_schema with a schema, or text; for any JSON object, say so "
        "in the prompt"
    )
