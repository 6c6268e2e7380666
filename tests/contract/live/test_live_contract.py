"""What processes say to each other arrives at those it is for, on the fake and on a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.progress import Ask, Moved, Output, Word
from tests.broker_world import eventually

if TYPE_CHECKING:
    from .conftest import FakeWire, RabbitWire

    Wire = FakeWire | RabbitWire


async def test_what_a_worker_says_every_ingress_hears_in_its_order(wire: Wire) -> None:
    said: list[Word] = [
        Moved("job_1", done=False),
        *(Output("job_1", 1, n, chr(0x3B1 + n)) for n in range(20)),
        Output("job_1", 1, 20, "\ud83d \x00 \"'"),
        Moved("job_1", done=True),
    ]
    one: list[Word] = []
    two: list[Word] = []
    other_worker: list[Word] = []
    async with (
        wire.ingress(one.extend),
        wire.ingress(two.extend),
        wire.worker(other_worker.extend),
        wire.worker(other_worker.extend) as worker,
    ):
        for word in said:
            worker.say(word)
        await eventually(lambda: len(one) >= len(said) and len(two) >= len(said))
    assert one == two == said
    assert other_worker == []


async def test_what_an_ingress_asks_every_worker_hears(wire: Wire) -> None:
    one: list[Word] = []
    two: list[Word] = []
    asker: list[Word] = []
    async with wire.worker(one.extend), wire.worker(two.extend), wire.ingress(asker.extend) as me:
        me.say(Ask("job_1", 7))
        await eventually(lambda: bool(one and two))
    assert one == two == [Ask("job_1", 7)]
    assert asker == []


async def test_what_one_ingress_did_the_others_hear(wire: Wire) -> None:
    other: list[Word] = []
    async with wire.ingress(other.extend), wire.ingress([].extend) as me:
        me.say(Moved("job_1", done=True))
        await eventually(lambda: bool(other))
    assert other == [Moved("job_1", done=True)]


async def test_who_comes_later_hears_nothing_of_before(wire: Wire) -> None:
    early: list[Word] = []
    late: list[Word] = []
    async with wire.ingress(early.extend), wire.worker([].extend) as worker:
        worker.say(Moved("job_1", done=False))
        await eventually(lambda: bool(early))
        async with wire.ingress(late.extend):
            worker.say(Moved("job_2", done=False))
            await eventually(lambda: bool(late))
    assert late == [Moved("job_2", done=False)]
