"""What a caller who follows a job is told, however much of it gets lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import hypothesis.strategies as st
from hypothesis import given

from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.progress import Output
from ingress.following import MOST_AT_ONCE, EventType, Follower, Gap, Told

AT = datetime(2026, 11, 22, tzinfo=UTC)


def a_job(**changes: object) -> Job:
    return Job(
        id="job_1",
        tenant="default",
        kind=JobKind.LLM,
        lane=Lane.DEFAULT,
        state=JobState.QUEUED,
        input="{}",
        created_at=AT,
        queued_at=AT,
        max_attempts=3,
    ).evolve(**changes)


@dataclass
class Reader:
    """A caller, who loses the connection now and then."""

    follower: Follower = field(default_factory=Follower)
    text: str = ""
    told: list[Told] = field(default_factory=list)

    def read(self, events: Iterable[Told]) -> None:
        for event in events:
            if event.type is EventType.RESET:
                self.text = ""
            if event.type is EventType.OUTPUT:
                assert event.index == len(self.text)
                self.text += event.text
            self.told.append(event)

    def reconnect(self) -> None:
        self.follower = Follower(self.told[-1].id if self.told else 0)

    @property
    def types(self) -> list[EventType]:
        return [event.type for event in self.told]


def test_a_job_from_its_queue_to_its_end() -> None:
    reader = Reader()
    follow = reader.follower
    reader.read(follow.look(a_job()))
    running = a_job(state=JobState.RUNNING, rounds=1)
    reader.read(follow.look(running))
    reader.read(follow.hear(Output("job_1", 1, 0, "Hel")))
    reader.read(follow.hear(Output("job_1", 1, 3, "lo")))
    reader.read(follow.look(running))
    reader.read(follow.look(a_job(state=JobState.SUCCEEDED, rounds=1), "Hello!"))
    assert reader.types == [
        EventType.QUEUED,
        EventType.RUNNING,
        *[EventType.OUTPUT] * 3,
        EventType.SUCCEEDED,
    ]
    assert reader.text == "Hello!"


def test_a_new_attempt_discards_what_the_last_one_wrote() -> None:
    reader = Reader()
    follow = reader.follower
    reader.read(follow.look(a_job(state=JobState.RUNNING, rounds=1)))
    reader.read(follow.hear(Output("job_1", 1, 0, "Hel")))
    reader.read(follow.look(a_job(state=JobState.RETRYING, rounds=1)))
    reader.read(follow.hear(Output("job_1", 1, 3, "late")))
    reader.read(follow.look(a_job(rounds=1)))
    reader.read(follow.look(a_job(state=JobState.RUNNING, rounds=2)))
    reader.read(follow.look(a_job(state=JobState.FAILED, rounds=2)))
    assert reader.types == [
        EventType.QUEUED,
        EventType.RUNNING,
        EventType.OUTPUT,
        EventType.RETRYING,
        EventType.QUEUED,
        EventType.RESET,
        EventType.RUNNING,
        EventType.FAILED,
    ]


def test_a_job_that_waits_for_its_time_says_nothing() -> None:
    waiting = a_job(state=JobState.SCHEDULED, queued_at=None)
    assert [*Follower().look(waiting)] == []


def test_a_long_output_comes_in_pieces() -> None:
    reader = Reader()
    text = "x" * (2 * MOST_AT_ONCE + 1)
    reader.read(reader.follower.look(a_job(state=JobState.SUCCEEDED, rounds=1), text))
    assert reader.types.count(EventType.OUTPUT) == 3
    assert reader.text == text


@dataclass
class Play:
    """A job, what its provider wrote, and its reader, who misses some of it."""

    data: st.DataObject
    reader: Reader = field(default_factory=Reader)
    job: Job = field(default_factory=a_job)
    written: str = ""

    def sometimes(self) -> bool:
        return self.data.draw(st.integers(0, 3)) == 0

    def look(self) -> None:
        self.reader.read(self.reader.follower.look(self.job, self.written if self.job.done else ""))

    def tell(self, output: Output) -> None:
        try:
            self.reader.read(self.reader.follower.hear(output))
        except Gap:
            self.look()
            everything = Output(self.job.id, self.job.rounds, 0, self.written)
            self.reader.read(self.reader.follower.hear(everything))

    def claim(self) -> None:
        if self.job.state in {JobState.QUEUED, JobState.RETRYING}:
            self.job = self.job.evolve(state=JobState.RUNNING, rounds=self.job.rounds + 1)
            self.written = ""

    def write(self) -> None:
        if self.job.state is JobState.RUNNING:
            piece = self.data.draw(st.text(min_size=1, max_size=5))
            output = Output(self.job.id, self.job.rounds, len(self.written), piece)
            self.written += piece
            if not self.sometimes():
                self.tell(output)

    def end(self, state: JobState) -> None:
        if self.job.state is JobState.RUNNING:
            self.job = self.job.evolve(state=state)

    def replay(self) -> None:
        if self.job.state is JobState.RETRYING:
            self.job = self.job.evolve(state=JobState.QUEUED, rounds=self.job.rounds + 1)


STEPS: dict[str, Callable[[Play], None]] = {
    "claim": Play.claim,
    "write": Play.write,
    "fail": lambda play: play.end(JobState.RETRYING),
    "hand back": lambda play: play.end(JobState.QUEUED),
    "replay": Play.replay,
    "succeed": lambda play: play.end(JobState.SUCCEEDED),
}
USUAL = [*STEPS, "write", "write"]
USUAL.remove("succeed")


@given(steps=st.lists(st.sampled_from(USUAL), max_size=25), data=st.data())
def test_whatever_is_lost_the_text_is_the_result_and_ids_only_grow(
    steps: list[str], data: st.DataObject
) -> None:
    play = Play(data)
    play.look()
    for step in [*steps, "claim", "write", "succeed"]:
        STEPS[step](play)
        if play.sometimes():
            play.reader.reconnect()
        if play.sometimes():
            play.look()
    play.look()
    ids = [event.id for event in play.reader.told]
    assert ids == sorted(set(ids))
    assert play.reader.types[-1] is EventType.SUCCEEDED
    assert play.reader.text == play.written
