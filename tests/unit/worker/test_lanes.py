"""Which delivery is next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from forebay.broker import DeadReason, JobMessage, Malformed
from forebay.jobs import Lane
from forebay.worker.lanes import LaneBuffer

NOT_READ = Malformed("not read here")


@dataclass(frozen=True)
class Parcel:
    lane: Lane
    n: int = 0
    message: JobMessage | Malformed = NOT_READ
    redelivered: bool = False

    async def ack(self) -> None: ...
    async def give_back(self) -> None: ...
    async def dead_letter(self, reason: DeadReason, detail: str) -> None: ...


def filled(**lanes: int) -> LaneBuffer:
    buffer = LaneBuffer()
    for lane, count in lanes.items():
        for n in range(count):
            buffer.put(Parcel(Lane(lane), n))
    return buffer


def taken(buffer: LaneBuffer, count: int) -> Counter[Lane]:
    return Counter(parcel.lane for _ in range(count) if (parcel := buffer.take()) is not None)


def test_the_interactive_lane_comes_first_and_the_others_keep_a_share() -> None:
    buffer = filled(interactive=1000, default=1000, bulk=1000)
    assert taken(buffer, 100) == {Lane.INTERACTIVE: 80, Lane.DEFAULT: 10, Lane.BULK: 10}


def test_no_turn_is_lost_on_an_empty_lane() -> None:
    assert taken(filled(bulk=10), 10) == {Lane.BULK: 10}
    assert taken(filled(default=5, bulk=5), 10) == {Lane.DEFAULT: 5, Lane.BULK: 5}


def test_a_lane_is_first_in_first_out() -> None:
    buffer = filled(default=3)
    first, second, third = (buffer.take() for _ in range(3))
    assert [first, second, third] == [Parcel(Lane.DEFAULT, n) for n in range(3)]
    assert buffer.take() is None


def test_emptying_takes_everything() -> None:
    buffer = filled(interactive=2, bulk=3)
    assert len(buffer) == 5
    assert len(buffer.empty()) == 5
    assert len(buffer) == 0
    assert buffer.take() is None
