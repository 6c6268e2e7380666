"""What chat completions say, said in Anthropic's words; what cannot be said is refused."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.requests import LlmRequest
from llm_worker.providers.anthropic_messages import Unsupported, parameters

USER = {"role": "user", "content": "Hello."}
CALL = {"id": "call_1", "function": {"name": "flow", "arguments": '{"river": "Aare"}'}}


def said(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    request = LlmRequest.model_validate({"model": "m", "messages": list(messages), **fields})
    return parameters(request, 4096)


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def picture(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def test_the_simplest_conversation() -> None:
    assert said(USER) == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [text("Hello.")]}],
    }


def test_limits_are_passed_on() -> None:
    asked = said(USER, max_tokens=9, temperature=0.3)
    assert asked["max_tokens"] == 9
    assert asked["extra_body"] == {"temperature": 0.3}


def test_system_and_developer_messages_become_the_system_prompt() -> None:
    asked = said(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [text("Be "), text("kind.")]},
        USER,
    )
    assert asked["system"] == "Be brief.\n\nBe kind."
    assert [turn["role"] for turn in asked["messages"]] == ["user"]


def test_messages_of_one_role_in_a_row_are_one_turn() -> None:
    asked = said(
        USER,
        {"role": "user", "content": "Again."},
        {"role": "assistant", "content": "Yes?"},
        USER,
    )
    assert [(turn["role"], len(turn["content"])) for turn in asked["messages"]] == [
        ("user", 2),
        ("assistant", 1),
        ("user", 1),
    ]


def test_pictures_are_passed_on_by_address_or_by_value() -> None:
    urls = ["https://a.example/x.png", "data:image/png;base64,aGk="]
    asked = said({"role": "user", "content": [text("See."), *map(picture, urls)]})
    assert asked["messages"][0]["content"] == [
        text("See."),
        {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
        },
    ]


def test_tools_their_calls_and_their_results() -> None:
    schema = {"type": "object", "properties": {"river": {"type": "string"}}}
    tool = {"name": "flow", "description": "Cubic metres", "parameters": schema}
    asked = said(
        USER,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "name": "flow", "content": "120"},
        {"role": "user", "content": "And now?"},
        tools=[
            {"type": "function", "function": tool},
            {"type": "function", "function": {"name": "now"}},
        ],
    )
    assert asked["tools"] == [
        {"name": "flow", "description": "Cubic metres", "input_schema": schema},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert asked["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call_1", "name": "flow", "input": {"river": "Aare"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("120")]},
                text("And now?"),
            ],
        },
    ]


def test_a_json_schema_is_passed_on_and_text_is_the_default() -> None:
    schema = {"type": "object", "properties": {}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert said(USER, response_format=wanted)["output_config"] == {
        "format": {"type": "json_schema", "schema": schema}
    }
    assert "output_config" not in said(USER, response_format={"type": "text"})


@pytest.mark.parametrize(
    ("messages", "fields", "advice"),
    [
        ([USER], {"response_format": {"type": "json_object"}}, "in the prompt"),
        ([USER], {"response_format": {"type": "json_schema"}}, "with a schema"),
        ([USER], {"temperature": 1.5}, "1 or less"),
        ([USER], {"tools": [{"type": "web_search"}]}, '"type": "function"'),
        ([{"role": "system", "content": "Be brief."}], {}, "user message"),
        ([{"role": "user"}], {}, "without content"),
        ([{"role": "user", "content": ""}], {}, "without content"),
        ([{"role": "user", "name": "Ann", "content": "Hi."}], {}, "put it in the text"),
        ([USER, {"role": "tool", "content": "120"}], {}, "tool_call_id"),
        (
            [{"role": "user", "content": [picture("data:image/png,x")]}],
            {},
            "base64",
        ),
        (
            [USER, {"role": "assistant", "content": [picture("https://a.example/x.png")]}],
            {},
            "as the user",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "[1"}}],
                }
            ],
            {},
            "JSON object",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_what_to_do(
    messages: list[dict[str, Any]], fields: dict[str, Any], advice: str
) -> None:
    with pytest.raises(Unsupported, match=advice.replace('"', ".")):
        said(*messages, **fields)
