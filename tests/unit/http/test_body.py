from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import TooLarge, Unreadable
from forebay.http import read_head, read_limited


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def response(body: bytes | Chunks, size: int = 16_384, **headers: str) -> httpx.Response:
    stream = body if isinstance(body, Chunks) else Chunks(cut(body, size))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers=named, stream=stream)


def deflate(body: bytes, window: int) -> bytes:
    squeezer = zlib.compressobj(wbits=window)
    return squeezer.compress(body) + squeezer.flush()


@given(st.binary(max_size=5000), st.integers(1, 700))
async def test_every_coding_gives_back_what_went_in(body: bytes, size: int) -> None:
    packed = {
        "identity": body,
        "gzip": gzip.compress(body),
        "x-gzip": gzip.compress(body[:100]) + gzip.compress(body[100:]),
        "deflate": deflate(body, zlib.MAX_WBITS),
        "gzip, deflate": deflate(gzip.compress(body), zlib.MAX_WBITS),
    }
    for coding, data in packed.items():
        answer = response(data, size, content_encoding=coding)
        assert await read_limited(answer, 12_000) == body


async def test_deflate_without_its_header_is_understood() -> None:
    body = b"hello " * 100
    answer = response(deflate(body, -zlib.MAX_WBITS), content_encoding="deflate")
    assert await read_limited(answer, 10_000) == body


async def test_exactly_the_limit_is_allowed_and_one_byte_more_is_not() -> None:
    assert len(await read_limited(response(b"x" * 1000), 1000)) == 1000
    with pytest.raises(TooLarge) as wire:
        await read_limited(response(b"x" * 1001), 1000)
    assert wire.value.kind == "wire"
    packed = gzip.compress(b"x" * 1001)
    with pytest.raises(TooLarge) as decoded:
        await read_limited(response(packed, content_encoding="gzip"), 1000)
    assert decoded.value.kind == "decoded"
    assert decoded.value.limit == 1000


@pytest.mark.parametrize("layers", [1, 2])
async def test_a_bomb_is_never_expanded_beyond_the_limit(layers: int) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=9)
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    coding = ", ".join(["gzip"] * layers)
    tracemalloc.start()
    with pytest.raises(TooLarge) as caught:
        await read_limited(response(bomb, content_encoding=coding), 1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.kind == "decoded"
    assert peak < 6 * 1024 * 1024


async def test_a_bomb_inside_that_gives_nothing_outside_is_bounded_too() -> None:
    """The inner layer's output is counted, not only what comes out in the end."""
    empty_members = gzip.compress(gzip.compress(b"") * 200_000)
    assert len(empty_members) < 50_000
    with pytest.raises(TooLarge):
        await read_limited(response(empty_members, content_encoding="gzip, gzip"), 1_000_000)


async def test_an_endless_body_is_left_as_soon_as_the_limit_is_passed() -> None:
    stream = Chunks(b"x" * 1000 for _ in iter(int, 1))
    with pytest.raises(TooLarge):
        await read_limited(response(stream), 10_000)
    assert stream.taken == 11


async def test_a_length_over_the_limit_is_refused_before_reading() -> None:
    stream = Chunks([b"x"])
    for length in ("2000", "9" * 5000):
        with pytest.raises(TooLarge):
            await read_limited(response(stream, content_length=length), 1000)
    assert stream.taken == 0


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "gzip,gzip,gzip,gzip"])
async def test_a_coding_that_was_not_asked_for_is_unreadable(coding: str) -> None:
    with pytest.raises(Unreadable):
        await read_limited(response(b"anything", content_encoding=coding), 1000)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_damaged_and_cut_off_streams_are_unreadable(coding: str) -> None:
    window = 16 + zlib.MAX_WBITS if coding == "gzip" else zlib.MAX_WBITS
    good = deflate(bytes(range(256)) * 20, window)
    for bad in (b"not compressed at all", good[:-3], good[:20] + b"\xff" * 30):
        with pytest.raises(Unreadable):
            await read_limited(response(bad, content_encoding=coding), 100_000)


async def test_the_head_of_a_long_body_is_given_and_the_rest_is_left() -> None:
    stream = Chunks([b"a" * 400, b"b" * 400, b"c" * 400, b"d" * 400])
    assert await read_head(response(stream), 1000) == b"a" * 400 + b"b" * 400
    assert stream.taken == 3
