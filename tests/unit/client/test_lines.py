from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from forebay.client.lines import lines


async def pieces(*said: bytes) -> AsyncIterator[bytes]:
    for piece in said:
        yield piece


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ([b"a\r\n", b"b\n\n"], [b"a", b"b", b""]),
        ([b"a", b"b", b"\nc", b"\n"], [b"ab", b"c"]),
        (["a\u2028b\x0b\x85c\n".encode()], ["a\u2028b\x0b\x85c".encode()]),
        ([b"a\nhalf"], [b"a"]),
        ([b"half"], []),
        ([], []),
    ],
)
async def test_a_line_ends_with_its_line_end_and_nowhere_else(
    said: list[bytes], found: list[bytes]
) -> None:
    assert [line async for line in lines(pieces(*said))] == found
