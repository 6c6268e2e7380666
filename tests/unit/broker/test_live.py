"""How words are written, and that nonsense from the wire harms nobody."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.broker.live import read, written
from forebay.progress import Ask, Moved, Output, Word

IDS = st.text(max_size=40)
NUMBERS = st.integers(0, 2**40)
WORDS: st.SearchStrategy[Word] = st.one_of(
    st.builds(Moved, IDS, st.booleans()),
    st.builds(Output, IDS, NUMBERS, NUMBERS, st.text()),
    st.builds(Ask, IDS, NUMBERS),
)


@given(st.lists(WORDS))
def test_what_is_written_is_read(words: list[Word]) -> None:
    assert [*read(written(words))] == words


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"{}", b"\xff", b"7", b"[" * 100_000, b'"moved"']
)
def test_what_is_no_list_of_words_says_nothing(body: bytes) -> None:
    assert [*read(body)] == []


def test_words_of_another_version_are_passed_over() -> None:
    body = [
        ["moved", "a", True],
        ["sang", "b"],
        ["moved", "c"],
        ["ask", "d", "0"],
        7,
        ["ask", "e", 0],
    ]
    assert [*read(json.dumps(body).encode())] == [Moved("a", done=True), Ask("e", 0)]
