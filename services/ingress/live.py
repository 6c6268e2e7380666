"""What the workers say, handed to the callers of this replica who wait for it.

Theory of operation. A word wakes; the store tells. Who waits for the end of a job is woken by the
word that it is done, and by a slow look at the store when that word was lost. Who follows a job
gets its words in an ear of their own, which keeps a bounded number of them: who is too slow for it
gets a single "it moved" in their place, looks at the store and asks for what is missing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from forebay.progress import Ask, Moved, Output, Voice, Word
from forebay.store.watch import Watch

MOST_UNHEARD = 1_000
"""Words that one ear keeps."""


class Ear:
    """The words of one job, for one who follows it."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._words: deque[Moved | Output] = deque()
        self._anything = asyncio.Event()
        self.closed = False
        """Whether nothing will come any more: the process stops."""

    def hear(self, word: Moved | Output) -> None:
        """Keep it until it is asked for."""
        if len(self._words) >= MOST_UNHEARD:
            self._words.clear()
            word = Moved(self._job_id, done=False)
        self._words.append(word)
        self._anything.set()

    def close(self) -> None:
        """Let go who waits."""
        self.closed = True
        self._anything.set()

    async def next(self, timeout_s: float) -> Moved | Output | None:
        """The next word; None when none comes in time, or the ear is closed."""
        if not self._words and not self.closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._anything.wait()
            except TimeoutError:
                return None
        word = self._words.popleft() if self._words else None
        if not self._words and not self.closed:
            self._anything.clear()
        return word


class Hub:
    """All who wait for something in this replica.

    Args:
        waiting: those who wait for the end of a job.
        voice: asks the workers.
    """

    def __init__(self, waiting: Watch, voice: Voice) -> None:
        self._waiting = waiting
        self._voice = voice
        self._ears: defaultdict[str, set[Ear]] = defaultdict(set)
        self._released = False

    @property
    def followed(self) -> int:
        """How many jobs are followed here."""
        return len(self._ears)

    def heard(self, words: Sequence[Word]) -> None:
        """Take what the workers, or another replica, said."""
        ended = frozenset(w.job_id for w in words if isinstance(w, Moved) and w.done)
        if ended:
            self._waiting.tell(ended)
        for word in words:
            if not isinstance(word, Ask):
                for ear in self._ears.get(word.job_id, ()):
                    ear.hear(word)

    def moved(self, job_id: str, *, done: bool) -> None:
        """Tell everybody, here and in the other replicas, what this one did to a job."""
        self._voice.say(Moved(job_id, done))

    def ask(self, job_id: str, offset: int) -> None:
        """Have the job's worker tell what is written from there on."""
        self._voice.say(Ask(job_id, offset))

    @contextmanager
    def listening(self, job_id: str) -> Iterator[Ear]:
        """An ear for the words of a job."""
        ear = Ear(job_id)
        self._ears[job_id].add(ear)
        if self._released:
            ear.close()
        try:
            yield ear
        finally:
            ears = self._ears[job_id]
            ears.discard(ear)
            if not ears:
                del self._ears[job_id]

    def release(self) -> None:
        """Let everybody go: the process stops."""
        self._released = True
        self._waiting.release()
        for ears in tuple(self._ears.values()):
            for ear in ears:
                ear.close()
