"""Reading an answer without ever holding more of it than was allowed.

httpx's own decoders expand a chunk without a bound: 16 KiB of gzip can become 16 MiB at once.
Here zlib is asked for no more than what is left of the limit.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from forebay.errors import TooLarge, Unreadable

ACCEPT_ENCODING = "gzip, deflate"
"""The codings that can be decoded within a bound; others are not asked for and not accepted."""
_MAX_CODINGS = 3
"""RFC 9110 sets no bound on nested codings; nobody honest nests more."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""zlib's word for: tell gzip and zlib apart by the header."""


class _Inflater:
    """One coding, decoded within a bound; members after the first are decoded too (RFC 1952)."""

    def __init__(self, coding: str, max_bytes: int) -> None:
        self._gzip = coding != "deflate"
        self._max_bytes = max_bytes
        self._produced = 0
        self._started = False
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    @property
    def complete(self) -> bool:
        """Whether the stream came to its end; an empty one did."""
        return self._zlib.eof or not self._started

    def feed(self, data: bytes) -> bytes:
        """What `data` decodes to; raises `TooLarge` and `Unreadable`."""
        out = bytearray()
        while data:
            if self._zlib.eof:
                if not self._gzip or data[:1] != b"\x1f":
                    break  # padding after the stream is ignored, as browsers do
                self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)
            out += self._inflate(data)
            data = self._zlib.unused_data
        return bytes(out)

    def _inflate(self, data: bytes) -> bytes:
        # One byte more than allowed is enough to know; zlib keeps the rest compressed.
        most = self._max_bytes + 1 - self._produced
        try:
            piece = self._zlib.decompress(data, most)
        except zlib.error as damaged:
            if self._gzip or self._started:
                raise Unreadable(f"the answer's compression is damaged ({damaged})") from None
            piece = self._inflate_bare(data, most)
        self._started = True
        self._produced += len(piece)
        if self._produced > self._max_bytes:
            raise TooLarge("decoded", self._max_bytes)
        return piece

    def _inflate_bare(self, data: bytes, most: int) -> bytes:
        # Some servers send "deflate" without the zlib header that RFC 9110, 8.4.1.2 asks for.
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._zlib.decompress(data, most)
        except zlib.error as damaged:
            raise Unreadable(f"the answer's compression is damaged ({damaged})") from None


def _inflaters(response: httpx.Response, max_bytes: int) -> list[_Inflater]:
    said = response.headers.get("content-encoding", "").lower()
    codings = [part.strip() for part in said.split(",") if part.strip() not in {"", "identity"}]
    if any(coding not in {"gzip", "x-gzip", "deflate"} for coding in codings):
        raise Unreadable("the answer is in a content coding that was not asked for")
    if len(codings) > _MAX_CODINGS:
        raise Unreadable("the answer is wrapped in too many content codings")
    return [_Inflater(coding, max_bytes) for coding in reversed(codings)]


async def read_limited(response: httpx.Response, max_bytes: int) -> bytes:
    """The body of a streamed response, decoded, `max_bytes` at most on the wire and decoded.

    The response must come from `client.stream(...)` or `client.send(..., stream=True)`; its closing
    is the caller's. Raises `TooLarge`, `Unreadable`, and what the transport raises.
    """
    said = response.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > max_bytes):
        raise TooLarge("wire", max_bytes)
    return b"".join([piece async for piece in _decoded(response, max_bytes)])


async def read_head(response: httpx.Response, max_bytes: int) -> bytes:
    """The beginning of a body: like `read_limited`, but what is over the limit is left unread."""
    pieces = []
    with suppress(TooLarge):
        async for piece in _decoded(response, max_bytes):
            pieces.append(piece)  # noqa: PERF401 - a comprehension would lose them all at the limit
    return b"".join(pieces)


async def _decoded(response: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    inflaters = _inflaters(response, max_bytes)
    received = 0
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if received > max_bytes:
            raise TooLarge("wire", max_bytes)
        data = chunk
        for inflater in inflaters:
            data = inflater.feed(data)
        yield data
    if not all(inflater.complete for inflater in inflaters):
        raise Unreadable("the answer broke off before its compressed stream ended")
