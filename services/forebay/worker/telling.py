"""What a worker tells of the jobs in its hands: to callers who follow them, and by webhook.

Theory of operation. That a job moved is always said. What its provider writes is kept while the
call runs, and said only while somebody asks: who follows a job asks each few seconds, from where
on. So output that nobody reads costs nothing, and who missed a word asks for it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from forebay.errors import StoreError
from forebay.jobs import Job
from forebay.progress import Ask, Moved, Output, Voice, Word, Write
from forebay.webhooks.notifier import Notifier

ASKED_FOR_S = 30.0
"""How long an ask holds; who follows asks more often."""
MOST_IN_ONE = 16 * 1024
"""Characters in one word, when much is to be told again."""


def uncounted(_: Job) -> None:
    """For whom nobody counts."""


class Telling:
    """The worker's side of it; `heard` takes the asks.

    Args:
        voice: speaks to the other processes.
        notifier: tells by webhook what ended.
        ended: hears of each job that has its end.
    """

    def __init__(
        self, voice: Voice, notifier: Notifier, ended: Callable[[Job], None] = uncounted
    ) -> None:
        self._voice = voice
        self._notifier = notifier
        self._ended = ended
        self._running: dict[str, _Written] = {}

    def moved(self, job: Job) -> None:
        """The store has it so now."""
        self._voice.say(Moved(job.id, job.done))
        if job.done:
            self._ended(job)

    async def stored(self, job: Job) -> None:
        """An attempt's end is in the store; if it is the job's, its webhooks are made."""
        self.moved(job)
        # What is not done here is left on the job, and the reconciler's notifier finds it there.
        with suppress(StoreError):
            await self._notifier.tell(job)

    @contextmanager
    def writing(self, job: Job) -> Iterator[Write]:
        """What the provider writes inside is told to who asks."""
        written = self._running[job.id] = _Written(job, self._voice)
        try:
            yield written.add
        finally:
            if self._running.get(job.id) is written:
                del self._running[job.id]

    def heard(self, words: Sequence[Word]) -> None:
        """Tell again what was asked for."""
        for word in words:
            if isinstance(word, Ask) and (written := self._running.get(word.job_id)):
                written.tell(word.offset)


class _Written:
    """What one call wrote so far."""

    def __init__(self, job: Job, voice: Voice) -> None:
        self._job = job
        self._voice = voice
        self._pieces: list[str] = []
        self._length = 0
        self._asked_until = 0.0
        self._clock = asyncio.get_running_loop().time

    def add(self, text: str) -> None:
        offset = self._length
        self._pieces.append(text)
        self._length += len(text)
        if text and self._clock() < self._asked_until:
            self._say(offset, text)

    def tell(self, offset: int) -> None:
        self._asked_until = self._clock() + ASKED_FOR_S
        text = "".join(self._pieces)
        self._pieces = [text]
        for start in range(max(offset, 0), len(text), MOST_IN_ONE):
            self._say(start, text[start : start + MOST_IN_ONE])

    def _say(self, offset: int, text: str) -> None:
        self._voice.say(Output(self._job.id, self._job.rounds, offset, text))
