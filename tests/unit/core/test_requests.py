"""What is accepted as input, kind by kind, and what is refused with a pointer to the field."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from forebay.jobs import CALLER_KINDS
from forebay.requests import INPUT_MODELS, CrawlRequest, LlmRequest, SearchRequest, Text

HELLO = [{"role": "user", "content": "hello"}]


def test_there_is_a_model_for_every_kind() -> None:
    assert set(INPUT_MODELS) == CALLER_KINDS


@pytest.mark.parametrize("model", INPUT_MODELS.values())
def test_every_model_accepts_its_own_example(model: type[BaseModel]) -> None:
    (example,) = model.model_json_schema()["examples"]
    value = model.model_validate(example)
    assert model.model_validate_json(value.model_dump_json()) == value


@pytest.mark.parametrize(
    ("model", "body", "where"),
    [
        (SearchRequest, {}, "query"),
        (SearchRequest, {"query": ""}, "query"),
        (SearchRequest, {"query": "  \n "}, "query"),
        (SearchRequest, {"query": 5}, "query"),
        (SearchRequest, {"query": "x" * 2049}, "query"),
        (SearchRequest, {"query": "x", "limit": 0}, "limit"),
        (SearchRequest, {"query": "x", "limit": 51}, "limit"),
        (SearchRequest, {"query": "x", "freshness": "hour"}, "freshness"),
        (SearchRequest, {"query": "x", "site": "https://example.com"}, "site"),
        (SearchRequest, {"query": "x", "qeury": "y"}, "qeury"),
        (CrawlRequest, {"url": "ftp://example.com"}, "url"),
        (CrawlRequest, {"url": "file:///etc/passwd"}, "url"),
        (CrawlRequest, {"url": "javascript:alert(1)"}, "url"),
        (CrawlRequest, {"url": "//example.com"}, "url"),
        (CrawlRequest, {"url": "http://"}, "url"),
        (CrawlRequest, {"url": "http://u:p@example.com/"}, "url"),
        (CrawlRequest, {"url": "http://exa mple.com/"}, "url"),
        (CrawlRequest, {"url": "http://example.com/\r\nHost: x"}, "url"),
        (CrawlRequest, {"url": "http://example.com:99999/"}, "url"),
        (CrawlRequest, {"url": "http://e.com", "formats": []}, "formats"),
        (CrawlRequest, {"url": "http://e.com", "formats": ["pdf"]}, "formats"),
        (CrawlRequest, {"url": "http://e.com", "render": True}, "render"),
        (CrawlRequest, {"url": "http://e.com", "follow": {"max_pages": 0}}, "follow"),
        (LlmRequest, {"model": "m", "messages": []}, "messages"),
        (LlmRequest, {"model": "", "messages": HELLO}, "model"),
        (LlmRequest, {"model": "m"}, "messages"),
        (LlmRequest, {"model": "m", "messages": [{"role": "robot", "content": ""}]}, "messages"),
        (LlmRequest, {"model": "m", "messages": HELLO, "temperature": 3}, "temperature"),
        (LlmRequest, {"model": "m", "messages": HELLO, "max_tokens": 0}, "max_tokens"),
        (LlmRequest, {"model": "m", "messages": HELLO, "n": 2}, "n"),
    ],
)
def test_bad_input_is_refused_at_its_field(
    model: type[BaseModel], body: dict[str, Any], where: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert {error["loc"][0] for error in refused.value.errors()} == {where}


def test_a_query_is_taken_without_the_space_around_it() -> None:
    assert SearchRequest(query="  forebay \n").query == "forebay"


def test_which_texts_are_blank_is_described() -> None:
    texts: TypeAdapter[str] = TypeAdapter(Text)
    described = re.compile(texts.json_schema()["pattern"])
    characters = [chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n <= 0xDFFF]
    accepted = [one for one in characters if is_accepted(texts, one)]
    assert accepted == [one for one in characters if described.search(one)]


def is_accepted(texts: TypeAdapter[str], text: str) -> bool:
    try:
        texts.validate_python(text)
    except ValidationError:
        return False
    return True


def test_a_conversation_may_hold_pictures_and_tools() -> None:
    body = {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}],
    }
    assert LlmRequest.model_validate(body).tools == tuple(body["tools"])  # type: ignore[arg-type]
