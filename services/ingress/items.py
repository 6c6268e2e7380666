"""The items of a batch, cut out of its body without reading the body as a whole.

Theory of operation. A document of 64 MiB that is parsed in one go stops the process for seconds and
takes up to forty times its size. So it is only cut: of an item just its strings and brackets are
looked at, to find its end, and its span is noted. Each item is parsed by itself when its turn
comes; what is left of the document without them is small. Whoever cuts lets everybody else have a
turn every few milliseconds. Whether an item is JSON shows when it is parsed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic_core import from_json

from forebay.batches import MOST_ITEMS
from ingress.body import malformed, validation_error
from ingress.problems import InvalidPart, ProblemCode, RequestRefused

TURN_S = 0.005
"""How long one batch works at a stretch."""
MOST_BESIDE = 1024 * 1024
"""Bytes of a document without its items: its metadata may have 16 KiB."""
_BRACKETS_A_LOOK = 1024

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = rb"[ \t\n\r]*+"
_SPACES = re.compile(_SPACE)
_NAME = re.compile(b"(" + _STRING + b")" + _SPACE + b":" + _SPACE, re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^ \t\n\r,:"\[\]{}]++', re.DOTALL)
# Matches wherever it is tried, perhaps without a bracket: so a text that never ends is tried once.
_BRACKETS = re.compile(
    rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+(?:([\[{])|([\]}]))?', re.DOTALL
)
_OPENS = 1
_AFTER_VALUE = re.compile(_SPACE + rb"([,\]}])" + _SPACE)
_LINE = re.compile(rb"\s*+(\S[^\n]*+)")


class Turns:
    """Lets everybody else have a turn when ours has lasted long enough."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()

    async def next(self) -> None:
        """Go on, perhaps after the others."""
        if self._clock() - self._began > TURN_S:
            await asyncio.sleep(0)
            self._began = self._clock()


@dataclass(frozen=True, slots=True)
class Items:
    """The JSON text of each item, made when it is asked for."""

    body: bytes = field(repr=False)
    spans: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[bytes]:
        return (self.body[start:end] for start, end in self.spans)


async def cut_lines(body: bytes) -> Items:
    """An item for each line that is not blank; raises `RequestRefused` for too many."""
    turns, items = Turns(), Items(body, [])
    at = 0
    while line := _LINE.match(body, at):
        _add(items, line.span(1), "")
        at = line.end()
        await turns.next()
    return items


async def cut_document(body: bytes) -> tuple[bytes, Items]:
    """The document with one item or none in `jobs`, and the items.

    Raises `RequestRefused` for what is not JSON around the items, for too many of them, and for too
    much beside them.
    """
    scanner, items, array = _Scanner(body), Items(body, []), slice(0, 0)
    if scanner.takes(b"{") and not scanner.takes(b"}"):
        more = True
        while more:
            name, start = scanner.name(), scanner.at
            if name == "jobs" and scanner.takes(b"["):
                if array.stop:
                    raise malformed("`jobs` is there twice.")
                await scanner.cut(items)
                array = slice(start, scanner.at)
            else:
                await scanner.value()
            more = scanner.goes_on(until=b"}")
    beside = body
    if array.stop:
        some = b"[{}]" if items.spans else b"[]"
        beside = body[: array.start] + some + body[array.stop :]
    if len(beside) > MOST_BESIDE:
        raise RequestRefused(
            ProblemCode.PAYLOAD_TOO_LARGE,
            f"Without its `jobs` the body may have at most {MOST_BESIDE} bytes.",
        )
    return beside, items


class _Scanner:
    """Reads a JSON text from value to value, without looking into them."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._turns = Turns()
        self.at = _SPACES.match(body).end()  # type: ignore[union-attr] # it matches nothing, too

    def takes(self, sign: bytes) -> bool:
        """Whether that comes next; if so it is read, with the space after it."""
        found = self._body.startswith(sign, self.at)
        if found:
            self._match(_SPACES, self.at + 1)
        return found

    def name(self) -> str:
        """The name of the next member; what cannot be read is not the one that is looked for."""
        quoted = self._match(_NAME, self.at)[1]
        with suppress(ValueError):
            return str(from_json(quoted))
        return ""

    def goes_on(self, *, until: bytes) -> bool:
        """After a value: whether another one comes before the end."""
        sign = self._match(_AFTER_VALUE, self.at)[1]
        if sign not in {b",", until}:
            raise self._unreadable()
        return sign != until

    async def value(self) -> None:
        """Read one value."""
        if self._body[self.at : self.at + 1] not in {b"{", b"["}:
            self._match(_SCALAR, self.at)
            return
        depth = 0
        for looked, found in enumerate(_BRACKETS.finditer(self._body, self.at), 1):
            if found.lastindex is None:
                break
            depth += 1 if found.lastindex == _OPENS else -1
            if depth == 0:
                self.at = found.end()
                return
            if looked % _BRACKETS_A_LOOK == 0:
                await self._turns.next()
        raise self._unreadable()

    async def cut(self, items: Items) -> None:
        """Read the rest of an array, and note where its elements are."""
        if self.takes(b"]"):
            return
        more = True
        while more:
            start = self.at
            await self.value()
            _add(items, (start, self.at), "/jobs")
            more = self.goes_on(until=b"]")
            await self._turns.next()

    def _match(self, pattern: re.Pattern[bytes], at: int) -> re.Match[bytes]:
        found = pattern.match(self._body, at)
        if found is None:
            raise self._unreadable()
        self.at = found.end()
        return found

    def _unreadable(self) -> RequestRefused:
        return malformed(f"Invalid JSON at byte {self.at}.")


def _add(items: Items, span: tuple[int, int], pointer: str) -> None:
    if len(items.spans) == MOST_ITEMS:
        said = f"A batch has at most {MOST_ITEMS} items"
        raise validation_error([InvalidPart(pointer=pointer, detail=said)])
    items.spans.append(span)
