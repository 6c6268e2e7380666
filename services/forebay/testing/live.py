"""Words between processes in memory: the shipped fake of `forebay.broker.live`.

Like the real one it promises nothing: while it is `deaf`, what is said is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forebay.progress import Ask, Hear, Word


class FakeLive:
    """What all processes of one test say and hear."""

    def __init__(self) -> None:
        self.deaf = False
        self.said: list[Word] = []
        """Everything, for tests to look at."""
        self._hearing: dict[bool, list[Hear]] = {True: [], False: []}

    def ingress(self) -> FakeVoice:
        """A process that hears what moved and what is written."""
        return FakeVoice(self, asks=False)

    def worker(self) -> FakeVoice:
        """A process that hears the asks."""
        return FakeVoice(self, asks=True)

    def pass_on(self, word: Word) -> None:
        """Let those hear it who listen for such words; in a later step, as over a wire."""
        self.said.append(word)
        if not self.deaf:
            asyncio.get_running_loop().call_soon(self._pass_on, word)

    def _pass_on(self, word: Word) -> None:
        for hear in tuple(self._hearing[isinstance(word, Ask)]):
            hear([word])

    @asynccontextmanager
    async def hearing(self, hear: Hear, *, asks: bool) -> AsyncIterator[None]:
        """`hear` takes the words inside."""
        self._hearing[asks].append(hear)
        try:
            yield
        finally:
            self._hearing[asks].remove(hear)


class FakeVoice:
    """The `Live` of one process."""

    def __init__(self, live: FakeLive, *, asks: bool) -> None:
        self._live = live
        self._asks = asks

    def say(self, word: Word) -> None:
        """See `Voice.say`."""
        self._live.pass_on(word)

    @asynccontextmanager
    async def heard_by(self, hear: Hear) -> AsyncIterator[None]:
        """See `Live.heard_by`."""
        async with self._live.hearing(hear, asks=self._asks):
            yield
