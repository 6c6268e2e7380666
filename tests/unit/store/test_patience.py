"""Waiting for a store that is away when a process starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import stamina

from forebay.errors import StoreUnavailable, StoreUnfit
from forebay.store.memory import MemoryJobStore
from forebay.store.patience import Preparation, patient


class LateStore(MemoryJobStore):
    """The fake store that answers to `prepare` what it is told, one after the other."""

    def __init__(self, *answers: Exception | None) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self.answers: Iterator[Exception | None] = iter(answers)
        self.seen: list[str | None] = []
        self.preparation = Preparation(self)
        self.asked = asyncio.Event()

    async def prepare(self) -> None:
        self.asked.set()
        self.seen.append(self.preparation.lacking)
        answer = next(self.answers, None)
        if answer is not None:
            raise answer


async def test_a_store_that_answers_late_is_waited_for_and_the_reason_is_kept() -> None:
    store = LateStore(StoreUnavailable("no server"), StoreUnavailable("no primary"), None)
    assert store.preparation.lacking is not None
    assert await store.preparation.run(asyncio.Event()) is True
    assert store.preparation.lacking is None
    assert [seen.rpartition(": ")[2] for seen in store.seen if seen] == [
        "the store was not asked yet",
        "no server",
        "no primary",
    ]


async def test_a_stop_ends_the_waiting_at_once() -> None:
    store = LateStore(*[StoreUnavailable("no server")] * 1000)
    stop = asyncio.Event()
    running = asyncio.create_task(store.preparation.run(stop))
    await store.asked.wait()
    stop.set()
    async with asyncio.timeout(5):
        assert await running is False
    assert store.preparation.lacking is not None


async def test_a_retry_is_told_with_the_name_of_the_operation() -> None:
    told: list[str] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: told.append(details.name)])
    try:
        store = LateStore(StoreUnavailable("no server"), None)
        await patient(wait_max_s=0)(store.prepare)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert [name.rpartition(".")[2] for name in told] == ["prepare"]


async def test_a_store_that_is_unfit_is_not_waited_for() -> None:
    store = LateStore(StoreUnfit("a standalone server"))
    with pytest.raises(StoreUnfit, match="standalone"):
        await store.preparation.run(asyncio.Event())
