"""Every row of "bad input": the status, the code, the place, and nothing stored."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from time import process_time
from typing import Any

import pytest

from ingress.body import DISCARD_BYTES, MAX_DEPTH, MAX_JUDGED
from tests.ingress_by_hand import JSON, SEARCH, World, ingress
from tests.unit.http.test_addresses import CORPUS

CANARY = "canary-7f3a"
LLM: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}


async def refused(world: World, status: int, code: str, **request: Any) -> dict[str, Any]:
    path = request.pop("path", "/v1/jobs")
    response = await world.client.post(path, **request)
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert CANARY not in response.text
    assert CANARY not in str(world.logs)
    assert (await world.client.get("/v1/jobs")).json()["data"] == []
    return problem


def pointers(problem: dict[str, Any]) -> set[str]:
    return {error["pointer"] for error in problem["errors"]}


def nested(levels: int) -> bytes:
    """A body nested that deep: the envelope is one level, `metadata` another."""
    inner = b"[" * (levels - 2) + b"]" * (levels - 2)
    return b'{"kind":"search","input":{"query":"x"},"metadata":{"a":%b}}' % inner


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{'query': 1}",
        b'{"query": "x"} and more',
        b"\xef\xbb\xbf{}",
        b'{"query": "\xff"}',
        b'{"query": "\xed\xa0\x80"}',
        rb'{"query": "\ud800"}',
        rb'{"query": "\ud800\ud800"}',
        rb'{"query": "\udc00"}',
        rb'{"query": "\x"}',
        b'{"query": "x", "limit": 01}',
        b'{"query": "x", "limit": NaN}',
        b'{"query": "' + CANARY.encode(),
        b'{"n": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'"' + b'\\"' * 200_000,
        b"[" * 33 + b"]" * 33,
    ],
)
async def test_a_body_that_is_not_readable_json_is_400(world: World, content: bytes) -> None:
    await refused(world, 400, "malformed_json", path="/v1/search", content=content, headers=JSON)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "-1E+999", "1" * 400 + ".5"])
async def test_a_number_that_json_cannot_say_back_is_400(world: World, number: str) -> None:
    content = f'{{"kind":"search","input":{{"query":"x"}},"metadata":{{"n":[{{"m":{number}}}]}}}}'
    await refused(world, 400, "malformed_json", content=content, headers=JSON)


async def test_words_that_look_like_such_numbers_are_only_words(world: World) -> None:
    words = {"kind": "search", "input": {"query": "NaN 1e400 Infinity " + "1" * 400}}
    assert (await world.client.post("/v1/jobs", json=words)).status_code == 202


async def test_a_body_one_level_too_deep_is_400(world: World) -> None:
    deep = nested(MAX_DEPTH + 1)
    await refused(world, 400, "malformed_json", content=deep, headers=JSON)
    fits = await world.client.post("/v1/jobs", content=nested(MAX_DEPTH), headers=JSON)
    assert fits.status_code == 202


async def test_brackets_inside_strings_are_not_depth(world: World) -> None:
    body = {**LLM, "messages": [{"role": "user", "content": '[{"\\' * 1000}] * 40}
    assert (await world.client.post("/v1/llm", json=body)).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "search", "input": {"query": "x", "quary": 1}}, "/input/quary"),
        ({"kind": "search", "input": {"query": ""}}, "/input/query"),
        ({"kind": "search", "input": {"query": "   "}}, "/input/query"),
        ({"kind": "search", "input": {}}, "/input/query"),
        ({"kind": "search"}, "/input"),
        ({"input": {"query": "x"}}, "/kind"),
        ({"kind": CANARY, "input": {}}, "/kind"),
        ({"kind": 5, "input": {}}, "/kind"),
        ({"kind": "search", "input": {"query": "x", "limit": "5"}}, "/input/limit"),
        ({"kind": "search", "input": {"query": "x", "limit": True}}, "/input/limit"),
        ({"kind": "search", "input": {"query": "x", "limit": 51}}, "/input/limit"),
        ({"kind": "search", "input": {"query": "x", "language": CANARY}}, "/input/language"),
        ({"kind": "crawl", "input": {"url": f"ftp://{CANARY}/"}}, "/input/url"),
        ({"kind": "crawl", "input": {"url": f"javascript:{CANARY}"}}, "/input/url"),
        ({"kind": "crawl", "input": {"url": f"http://example.com:{CANARY}/"}}, "/input/url"),
        ({"kind": "crawl", "input": {"url": f"http://{CANARY}\u2100'/"}}, "/input/url"),
        ({"kind": "crawl", "input": {"url": f"https://u:{CANARY}@example.com/"}}, "/input/url"),
        (
            {"kind": "crawl", "input": {"url": "https://e.com/", "formats": ["pdf"]}},
            "/input/formats/0",
        ),
        ({"kind": "crawl", "input": {"url": "https://e.com/", "render": True}}, "/input/render"),
        ({"kind": "llm", "input": {"model": "m", "messages": []}}, "/input/messages"),
        ({"kind": "llm", "input": {"model": "m"}}, "/input/messages"),
        (
            {"kind": "llm", "input": {"model": "m", "messages": [{"role": CANARY}]}},
            "/input/messages/0/role",
        ),
        (
            {
                "kind": "llm",
                "input": {
                    "model": "m",
                    "messages": [{"role": "user", "content": [{"type": CANARY}]}],
                },
            },
            "/input/messages/0/content/0/type",
        ),
        (
            {
                "kind": "llm",
                "input": {
                    "model": "m",
                    "messages": [{"role": "user", "content": [{"type": "text"}]}],
                },
            },
            "/input/messages/0/content/0/text",
        ),
        ({"kind": "search", "input": SEARCH, "callback": {"url": "https://e.com"}}, "/callback"),
        ({"kind": "search", "input": SEARCH, "batch_id": "b"}, "/batch_id"),
        ({"kind": "search", "input": SEARCH, "a/b~c": 1}, "/a~1b~0c"),
        ({"kind": "search", "input": SEARCH, "lane": "fast"}, "/lane"),
        ({"kind": "search", "input": SEARCH, "retry": {"max_attempts": 0}}, "/retry/max_attempts"),
        ({"kind": "search", "input": SEARCH, "retry": {"on_unknown": "?"}}, "/retry/on_unknown"),
        ({"kind": "search", "input": SEARCH, "result_ttl_s": 1}, "/result_ttl_s"),
        ({"kind": "search", "input": SEARCH, "tags": "a"}, "/tags"),
        ({"kind": "search", "input": SEARCH, "tags": [""]}, "/tags/0"),
        ({"kind": "search", "input": SEARCH, "metadata": []}, "/metadata"),
        ({"kind": "search", "input": SEARCH, "metadata": {"a": "x" * 20_000}}, "/metadata"),
        ({"kind": "search", "input": SEARCH, "provider": {"order": ["A B"]}}, "/provider/order/0"),
        ({"kind": "search", "input": SEARCH, "deadline": 4102444800}, "/deadline"),
        ({"kind": "search", "input": SEARCH, "deadline": "4102444800"}, "/deadline"),
        ({"kind": "search", "input": SEARCH, "deadline": "2100-01-01T00:00:00"}, "/deadline"),
        ({"kind": "search", "input": SEARCH, "deadline": "2100-13-01T00:00:00Z"}, "/deadline"),
        (
            {"kind": "search", "input": SEARCH, "deadline": "9999-12-31T23:59:59-12:00"},
            "/deadline",
        ),
        (
            {
                "kind": "search",
                "input": SEARCH,
                "not_before": "2100-01-02T00:00:00Z",
                "deadline": "2100-01-01T00:00:00Z",
            },
            "/deadline",
        ),
        (
            {
                "kind": "search",
                "input": SEARCH,
                "start_by": "2100-01-02T00:00:00Z",
                "deadline": "2100-01-01T00:00:00Z",
            },
            "/start_by",
        ),
        (
            {"kind": "llm", "input": {"model": "m", "messages": [{"role": "user"}] * 10_001}},
            "/input/messages",
        ),
        (
            {"kind": "llm", "input": {**LLM, "tools": [{}] * 513}},
            "/input/tools",
        ),
        (
            {"kind": "crawl", "input": {"url": "https://e.com/", "formats": ["text"] * 9}},
            "/input/formats",
        ),
        ([], ""),
        ("text", ""),
        (None, ""),
    ],
)
async def test_what_is_not_valid_is_422_with_the_place(
    world: World, body: Any, pointer: str
) -> None:
    content = json.dumps(body)
    problem = await refused(world, 422, "validation_error", content=content, headers=JSON)
    assert pointers(problem) == {pointer}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("batches", {"jobs": []}, "Input should have at least 1 item"),
        ("crawl", {"url": "https://e.com/", "formats": []}, "Input should have at least 1 item"),
        ("jobs", {"kind": "search", "input": SEARCH, "tags": ["a"] * 999}, "at most"),
        (
            "jobs/replay",
            {"state": ["queued"]},
            "Input should be 'succeeded', 'failed', 'canceled' or 'expired'",
        ),
    ],
)
async def test_what_is_expected_is_said_in_the_words_of_the_api(
    world: World, path: str, body: Any, said: str
) -> None:
    problem = await refused(world, 422, "validation_error", path=f"/v1/{path}", json=body)
    (part,) = problem["errors"]
    assert said in part["detail"]
    assert "after validation" not in part["detail"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("kind=webhook", "Input should be 'search', 'crawl' or 'llm'"),
        ("limit=many", "Input should be a valid integer"),
    ],
)
async def test_what_is_expected_of_a_query_is_said_in_the_words_of_the_api(
    world: World, query: str, said: str
) -> None:
    problem = (await world.client.get(f"/v1/jobs?{query}")).json()
    assert [part["detail"] for part in problem["errors"]] == [said]


async def test_what_is_wrong_with_a_header_of_a_crawl_is_said(world: World) -> None:
    body = {"url": "https://example.com/", "headers": {"Host": "canary"}}
    problem = await refused(world, 422, "validation_error", path="/v1/crawl", json=body)
    (part,) = problem["errors"]
    assert part["pointer"] == "/headers"
    assert "Host" in part["detail"]
    assert "canary" not in json.dumps(problem)


async def test_every_invalid_place_is_named_but_not_more_than_a_screen(world: World) -> None:
    body = {"kind": "search", "input": {"limit": "x"}, "lane": 1}
    problem = await refused(world, 422, "validation_error", json=body)
    assert pointers(problem) == {"/input/query", "/input/limit", "/lane"}
    many = {"kind": "search", "input": SEARCH, **{f"f{i}": i for i in range(1000)}}
    problem = await refused(world, 422, "validation_error", json=many)
    assert len(problem["errors"]) == 20
    assert problem["detail"].startswith("1000 parts")


ONES = b"1," * 499_900 + b"1"


@pytest.mark.parametrize(
    ("path", "content", "pointer"),
    [
        ("llm", b'{"model":"m","messages":[%b]}' % ONES, "/messages/0"),
        ("llm", b'{"model":"m","messages":[{"role":"user","content":[%b]}]}' % ONES, None),
        ("llm", b'{"model":"m","messages":[{"role":"user"}],"tools":[%b]}' % ONES, "/tools/0"),
        ("crawl", b'{"url":"https://e.com/","formats":[%b]}' % ONES, "/formats/0"),
        ("jobs", b'{"kind":"search","input":{"query":"x"},"tags":[%b]}' % ONES, "/tags/0"),
        ("search", json.dumps({f"f{i}": 1 for i in range(80_000)}).encode(), ""),
        (
            "crawl",
            json.dumps(
                {"url": "https://e.com/", "headers": {f"{i:x}": i for i in range(60_000)}}
            ).encode(),
            "",
        ),
    ],
)
async def test_a_megabyte_of_wrong_parts_is_refused_in_no_time(
    world: World, path: str, content: bytes, pointer: str | None
) -> None:
    assert len(content) <= 1024 * 1024
    began = process_time()
    problem = await refused(
        world, 422, "validation_error", path=f"/v1/{path}", content=content, headers=JSON
    )
    # About 0.1 s; what grows with the square of the parts took minutes.
    assert process_time() - began < 2
    assert len(problem["errors"]) == 1
    if pointer is not None:
        assert pointers(problem) == {pointer}


async def test_no_more_errors_are_judged_than_a_bound(world: World) -> None:
    many = {"query": "x", **{f"f{i}": i for i in range(MAX_JUDGED + 1)}}
    problem = await refused(world, 422, "validation_error", path="/v1/search", json=many)
    assert pointers(problem) == {""}
    assert str(MAX_JUDGED) in problem["errors"][0]["detail"]


@pytest.mark.parametrize("limit", ["deadline", "start_by"])
async def test_a_time_limit_in_the_past_is_said_apart(world: World, limit: str) -> None:
    body = {"kind": "search", "input": SEARCH, limit: "2001-01-01T00:00:00Z"}
    problem = await refused(world, 422, "deadline_in_past", json=body)
    assert pointers(problem) == {f"/{limit}"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://2130706433/",
        "http://localhost/",
        "http://db.internal/",
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/crawl"])
async def test_a_literal_forbidden_address_is_refused(world: World, path: str, url: str) -> None:
    body: Any = {"url": url}
    if path == "/v1/jobs":
        body = {"kind": "crawl", "input": body}
    problem = await refused(world, 422, "address_forbidden", path=path, json=body)
    assert pointers(problem) == {"/input/url" if path == "/v1/jobs" else "/url"}


async def test_no_form_of_a_forbidden_address_is_accepted(world: World, figures: list[str]) -> None:
    codes: Counter[str] = Counter()
    for url in CORPUS:
        answer = await world.client.post("/v1/crawl", json={"url": url})
        codes[answer.json()["code"]] += 1
        assert answer.status_code == 422, url
    assert codes.total() >= 150
    assert {*codes} <= {"address_forbidden", "validation_error"}
    assert (await world.client.get("/v1/jobs")).json()["data"] == []
    figures.append(f"S2: {codes.total()} forms submitted: {dict(codes)}")


async def test_the_development_list_opens_an_exact_address(world: World) -> None:
    opened = await world.client.post("/v1/crawl", json={"url": "http://localhost:9000/a"})
    assert opened.status_code == 202


async def test_a_body_over_the_limit_is_413(world: World) -> None:
    content = json.dumps({"query": "x" * (1024 * 1024)}).encode()
    problem = await refused(
        world, 413, "payload_too_large", path="/v1/search", content=content, headers=JSON
    )
    assert "1048576" in problem["detail"]


async def test_a_chunked_body_is_counted_as_it_comes(world: World) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65_536

    await refused(
        world, 413, "payload_too_large", path="/v1/search", content=endless(), headers=JSON
    )
    assert sent * 65_536 <= 1024 * 1024 + DISCARD_BYTES + 2 * 65_536


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    async def half() -> Any:
        yield b'{"query": '
        await asyncio.Event().wait()

    async with ingress(body_timeout_s=0.05) as world:
        await refused(
            world, 408, "request_timeout", path="/v1/search", content=half(), headers=JSON
        )


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    async with ingress(max_body_bytes=2048) as world:
        frame = len(json.dumps({"query": ""}))
        content = json.dumps({"query": "x" * (2048 - frame)}).encode()
        assert len(content) == 2048
        taken = await world.client.post("/v1/search", content=content, headers=JSON)
        assert taken.status_code == 202
        over = await world.client.post("/v1/search", content=content + b" ", headers=JSON)
        assert over.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "text/problem+json"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_another_content_type_is_415(world: World, headers: dict[str, str]) -> None:
    content = json.dumps(SEARCH)
    await refused(
        world, 415, "unsupported_media_type", path="/v1/search", content=content, headers=headers
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/vnd.api+json",
        "application/json; version=1",
    ],
)
async def test_json_under_its_other_names_is_taken(world: World, content_type: str) -> None:
    taken = await world.client.post(
        "/v1/search", content=json.dumps(SEARCH), headers={"Content-Type": content_type}
    )
    assert taken.status_code == 202


async def test_a_form_of_the_input_alone_has_its_pointers_at_the_root(world: World) -> None:
    problem = await refused(world, 422, "validation_error", path="/v1/search", json={"query": ""})
    assert pointers(problem) == {"/query"}


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("search", {"query": "x"}, ("limit",)),
        ("crawl", {"url": "https://example.com/", "follow": {}}, ("follow", "max_pages")),
        ("crawl", {"url": "https://example.com/"}, ("max_bytes",)),
        ("llm", LLM, ("max_tokens",)),
        ("jobs", {"kind": "search", "input": SEARCH, "retry": {}}, ("retry", "max_attempts")),
        ("jobs", {"kind": "search", "input": SEARCH}, ("result_ttl_s",)),
        ("jobs/replay", {"dry_run": True}, ("limit",)),
    ],
)
async def test_an_integer_is_a_whole_number_however_json_writes_it(
    world: World, path: str, body: dict[str, Any], at: tuple[str, ...]
) -> None:
    most = {"limit": 50, "max_pages": 50, "max_attempts": 50}.get(at[-1], 60_000)
    for value, taken in ((f"{most}.0", True), (f"{most}e0", True), (f"{most}.5", False)):
        await asked_with(world, path, body, at, value, taken=taken)
    for value in ("true", f'"{most}"', "1e400", "-0.0", "1e30"):
        await asked_with(world, path, body, at, value, taken=False)


async def asked_with(
    world: World, path: str, body: dict[str, Any], at: tuple[str, ...], value: str, *, taken: bool
) -> None:
    whole = json.loads(json.dumps(body))
    place = whole
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = "VALUE"
    content = json.dumps(whole).replace('"VALUE"', value)
    answer = await world.client.post(f"/v1/{path}", content=content, headers=JSON)
    assert answer.status_code in ({200, 202} if taken else {400, 422}), (value, answer.text)
