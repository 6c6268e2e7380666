"""Cutting a batch into its items."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.batches import MOST_ITEMS
from ingress.items import MOST_BESIDE, cut_document, cut_lines
from ingress.problems import ProblemCode, RequestRefused

SPACES = st.text(" \t\r\n", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.dictionaries(st.text().filter(lambda name: name != "jobs"), VALUES, max_size=3)


@given(
    jobs=st.lists(VALUES, max_size=6),
    before=MEMBERS,
    after=MEMBERS,
    indent=st.none() | st.integers(0, 3),
    around=st.tuples(SPACES, SPACES),
    ascii_only=st.booleans(),
)
def test_the_items_are_the_elements_and_the_rest_is_the_document_without_them(
    jobs: list[Any],
    before: dict[str, Any],
    after: dict[str, Any],
    indent: int | None,
    around: tuple[str, str],
    ascii_only: bool,
) -> None:
    document = {**before, "jobs": jobs, **after}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).join(around)
    beside, items = asyncio.run(cut_document(text.encode("utf-8", "surrogatepass")))
    assert [json.loads(item) for item in items] == jobs
    assert len(items) == len(jobs)
    rest = json.loads(beside)
    assert rest.pop("jobs") == ([{}] if jobs else [])
    del document["jobs"]
    assert rest == document


async def test_the_name_may_be_written_in_any_way() -> None:
    _, items = await cut_document(rb'{"\u006aobs": [1 , {"a": "]}\\\""}, "x,]"]}')
    assert [*items] == [b"1", rb'{"a": "]}\\\""}', b'"x,]"']


@pytest.mark.parametrize("beside", [b"", b"  ", b"[1]", b'"jobs"', b"{}", b'{"jobs": 1}', b"{} x"])
async def test_a_document_without_such_an_array_is_left_as_it_is(beside: bytes) -> None:
    rest, items = await cut_document(beside)
    assert (rest, [*items]) == (beside, [])


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"jobs"',
        b'{"jobs": ',
        b'{"jobs": [',
        b'{"jobs": [1',
        b'{"jobs": [1,',
        b'{"jobs": [1,]}',
        b'{"jobs": [,1]}',
        b'{"jobs": [1 2]}',
        b'{"jobs": [1}}',
        b'{"jobs": [1:2]}',
        b'{"jobs": ["a]}',
        b'{"jobs": [{"a": 1]}',
        b'{"jobs": [1], }',
        b'{"jobs": [1] "a": 1}',
        b'{"jobs": [1]]',
        b"{jobs: [1]}",
        b'{"jobs": [1], "jobs": [2]}',
    ],
)
async def test_what_is_not_json_around_the_items_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        await cut_document(body)
    assert refused.value.code is ProblemCode.MALFORMED_JSON


async def test_much_beside_the_items_is_refused_before_it_is_read() -> None:
    body = b'{"jobs": [1], "metadata": {"a": "%b"}}' % (b"x" * MOST_BESIDE)
    with pytest.raises(RequestRefused) as refused:
        await cut_document(body)
    assert refused.value.code is ProblemCode.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize(
    ("body", "cut"),
    [(b'{"jobs": [%b]}', cut_document), (b"%b", cut_lines)],
    ids=["document", "lines"],
)
async def test_more_items_than_there_may_be_are_not_read_to_their_end(
    body: bytes, cut: Any
) -> None:
    separator = b"\n" if cut is cut_lines else b","
    most = await cut(body % separator.join([b"1"] * MOST_ITEMS))
    items = most[1] if isinstance(most, tuple) else most
    assert len(items) == MOST_ITEMS
    endless = separator.join([b"1"] * (MOST_ITEMS + 1)) + b"]]]]"
    with pytest.raises(RequestRefused, match="1 part of the request is not valid"):
        await cut(body % endless)


async def test_each_line_that_is_not_blank_is_an_item() -> None:
    items = await cut_lines(b"\n\n {1}\r\n  \t\n{2} \n\x0b\n{3}")
    assert [item.strip() for item in items] == [b"{1}", b"{2}", b"{3}"]


async def test_others_have_their_turn_while_a_large_body_is_cut() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await cut_document(b'{"jobs": [%b]}' % (b"[" * 1_000_000 + b"]" * 1_000_000))
    other.cancel()
    assert turns >= 10
