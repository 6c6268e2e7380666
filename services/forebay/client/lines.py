"""The lines of an answer, as they come.

httpx's own `aiter_lines` also splits at U+2028 and its kin, which a text in JSON may hold.
"""

from __future__ import annotations

from collections.abc import AsyncIterator


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Each line without its end; what is behind the last line end is left out: it broke off."""
    begun: list[bytes] = []
    async for piece in pieces:
        first, *others = piece.split(b"\n")
        begun.append(first)
        for other in others:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [other]
