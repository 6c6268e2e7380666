"""What a caller who follows a job is told, and in which order: pure.

Theory of operation. An event's id grows with everything that happens to the job: the round in the
upper bits (`Job.rounds`), the place inside the round in the lower 32. A place is a fixed one, or
while the provider writes, the length of the output so far. So an id says exactly what its reader
has, and any replica can go on from it: from what the worker announces, or from the stored result,
whose text is what was announced. Nothing has to be kept for it
(docs/decisions/0009-words-over-the-broker.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from forebay.jobs import Job, JobKind, JobState
from forebay.progress import Output

_PLACES = 2**32
MOST_AT_ONCE = 32 * 1024
"""Characters in one event, when much is to be made up for."""


class EventType(StrEnum):
    """What happened to the job."""

    QUEUED = "job.queued"
    RUNNING = "job.running"
    RETRYING = "job.retrying"
    OUTPUT = "job.output.delta"
    """The provider wrote more of its answer."""
    RESET = "job.output.reset"
    """A new attempt: what an earlier one wrote means nothing any more."""
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"
    EXPIRED = "job.expired"


class _Place(IntEnum):
    """The fixed places of a round. Between the first two and the last three is the output."""

    RESET = 0
    RUNNING = 1
    RETRYING = _PLACES - 3
    QUEUED = _PLACES - 2
    ENDED = _PLACES - 1


@dataclass(frozen=True, slots=True)
class Told:
    """One event for the caller."""

    id: int
    type: EventType
    index: int = 0
    """Of an output: how many characters came before it."""
    text: str = ""
    """Of an output."""


class Gap(Exception):
    """What was announced does not follow on what the caller has."""


class Follower:
    """How far one caller is.

    Args:
        after: the id of the last event the caller has; 0 for one who has none.
    """

    def __init__(self, after: int = 0) -> None:
        self._round, self._place = divmod(after, _PLACES)

    @property
    def round(self) -> int:
        """The round of the last event."""
        return self._round

    @property
    def offset(self) -> int:
        """How many characters of this round's output the caller has."""
        return max(self._place - _Place.RUNNING, 0) if self._place < _Place.RETRYING else 0

    def ended(self, job: Job) -> bool:
        """Whether the caller has the event of the job's end."""
        return (self._round, self._place) >= (job.rounds, _Place.ENDED)

    def look(self, job: Job, text: str = "") -> Iterator[Told]:
        """What is new now that the job is so; `text` is what a succeeded job wrote."""
        if job.queued_at is not None:
            yield from self._move(0, _Place.QUEUED, EventType.QUEUED)
        if job.rounds > self._round:
            yield from self._begin(job)
        match job.state:
            case JobState.QUEUED:
                yield from self._move(job.rounds, _Place.QUEUED, EventType.QUEUED)
            case JobState.RETRYING:
                yield from self._move(job.rounds, _Place.RETRYING, EventType.RETRYING)
            case JobState.RUNNING | JobState.CANCELING:
                yield from self._move(job.rounds, _Place.RUNNING, EventType.RUNNING)
            case _:
                pass
        if job.done:
            yield from self._write(0, text)
            yield from self._move(job.rounds, _Place.ENDED, EventType(f"job.{job.state}"))

    def hear(self, output: Output) -> Iterator[Told]:
        """What is new of an announced output; raises `Gap` when something is missing before it."""
        if output.round > self._round:
            raise Gap
        if output.round == self._round:
            yield from self._write(output.offset, output.text)

    def _begin(self, job: Job) -> Iterator[Told]:
        seen_before = self._round > 0
        if seen_before and job.kind is JobKind.LLM:
            yield from self._move(job.rounds, _Place.RESET, EventType.RESET)
        else:
            self._round, self._place = job.rounds, _Place.RESET

    def _write(self, offset: int, text: str) -> Iterator[Told]:
        if self._place >= _Place.RETRYING:
            return
        have = self.offset
        if offset > have:
            raise Gap
        while have - offset < len(text):
            piece = text[have - offset :][:MOST_AT_ONCE]
            self._place = _Place.RUNNING + have + len(piece)
            yield Told(self._id, EventType.OUTPUT, have, piece)
            have += len(piece)

    def _move(self, round_: int, place: _Place, event: EventType) -> Iterator[Told]:
        if (round_, place) > (self._round, self._place):
            self._round, self._place = round_, place
            yield Told(self._id, event)

    @property
    def _id(self) -> int:
        return self._round * _PLACES + self._place
