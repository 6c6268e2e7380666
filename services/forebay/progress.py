"""What processes tell each other of a job while it is under way, for callers who watch it.

A word may be lost, or come twice: whoever hears one looks at the store, and looks now and then
without having heard any. Nothing is promised on the ground of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Moved:
    """The job is in another state than before."""

    job_id: str
    done: bool
    """Whether that state is an end."""


@dataclass(frozen=True, slots=True)
class Output:
    """The provider wrote more of its answer."""

    job_id: str
    round: int
    """Of the job (`Job.rounds`), in which it is written."""
    offset: int
    """How many characters came before."""
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody follows the job: tell what is written from there on, for a while."""

    job_id: str
    offset: int
    """How many characters are known already."""


Word = Moved | Output | Ask

Write = Callable[[str], None]
"""Takes what the provider wrote next; never waits, never raises."""


def unheard(_: str) -> None:
    """For whom nobody listens."""


class Voice(Protocol):
    """Tells the other processes, soon and without a promise."""

    def say(self, word: Word) -> None:
        """Send it with the next batch; never waits, never raises."""


Hear = Callable[[Sequence[Word]], None]
"""Takes what others said; called in a step of the loop, must not block or raise."""


class Live(Voice, Protocol):
    """A voice, and an ear for what others say."""

    def heard_by(self, hear: Hear) -> AbstractAsyncContextManager[None]:
        """Speak and hear inside; entering does not wait for a connection."""
