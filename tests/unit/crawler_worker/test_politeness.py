from __future__ import annotations

import asyncio

import pytest

from crawler_worker.politeness import HostBusy, Politeness
from tests.unit.crawler_worker.conftest import FakeTime


async def test_starts_on_one_host_are_a_delay_apart_however_many_ask(time: FakeTime) -> None:
    politeness = Politeness(per_host=5, clock=time.clock, sleep=time.sleep)
    starts: list[float] = []

    async def visit() -> None:
        async with politeness.turn("a.example", 2.0):
            starts.append(time.now)

    await asyncio.gather(*(visit() for _ in range(6)))
    assert starts == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


async def test_hosts_do_not_wait_for_each_other(time: FakeTime) -> None:
    politeness = Politeness(per_host=1, clock=time.clock, sleep=time.sleep)
    async with politeness.turn("a.example", 100.0), politeness.turn("b.example", 100.0):
        assert time.now == 0.0


async def test_no_more_than_the_width_are_on_one_host_at_once(time: FakeTime) -> None:
    politeness = Politeness(per_host=2, clock=time.clock, sleep=time.sleep)
    inside = most = 0

    async def visit() -> None:
        nonlocal inside, most
        async with politeness.turn("a.example", 0.0):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(7)))
    assert most == 2


async def test_a_turn_beyond_the_patience_is_refused_and_takes_no_slot(time: FakeTime) -> None:
    politeness = Politeness(per_host=1, clock=time.clock, sleep=time.sleep)
    async with politeness.turn("a.example", 30.0):
        with pytest.raises(HostBusy):
            async with politeness.turn("a.example", 30.0, patience_s=0.001):
                raise AssertionError("not its turn")
    with pytest.raises(HostBusy):
        async with politeness.turn("a.example", 30.0, patience_s=5.0):
            raise AssertionError("not its turn")
    async with politeness.turn("a.example", 30.0, patience_s=31.0):
        assert time.now == 30.0


async def test_a_turn_given_up_frees_its_slot(time: FakeTime) -> None:
    politeness = Politeness(per_host=1, clock=time.clock, sleep=time.sleep)
    with pytest.raises(ZeroDivisionError):
        async with politeness.turn("a.example", 0.0):
            raise ZeroDivisionError
    async with politeness.turn("a.example", 0.0):
        pass


async def test_idle_hosts_are_forgotten_and_their_delay_is_not(time: FakeTime) -> None:
    politeness = Politeness(per_host=1, clock=time.clock, sleep=time.sleep)
    async with politeness.turn("slow.example", 50.0):
        pass
    for n in range(1500):
        async with politeness.turn(f"{n}.example", 0.0):
            pass
    assert len(politeness._hosts) <= 1001
    async with politeness.turn("slow.example", 50.0):
        assert time.now == 50.0
