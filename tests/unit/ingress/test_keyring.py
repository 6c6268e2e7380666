"""The keys a process knows: how long they are believed, and what guesses cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from forebay.errors import StoreUnavailable
from forebay.keys import ApiKey, Role, issue
from forebay.store.keys import MemoryKeyStore
from ingress.keyring import READERS, UNKNOWN_S, KeyRing
from tests.ingress_by_hand import until

MAX_AGE_S = 45.0


class CountingStore(MemoryKeyStore):
    """Counts reads, can be away, and can keep readers waiting."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self.reads = 0
        self.reading = 0
        self.away = False
        self.found: ApiKey | None = None
        """What a slow read brings: as it was before."""
        self.free = asyncio.Event()
        self.free.set()

    async def find(self, key_id: str) -> ApiKey | None:
        self.reads += 1
        self.reading += 1
        try:
            await self.free.wait()
            if self.away:
                raise StoreUnavailable
            return self.found or await super().find(key_id)
        finally:
            self.reading -= 1


class Scene:
    def __init__(self) -> None:
        self.now = 0.0
        self.store = CountingStore()
        self.ring = KeyRing(self.store, MAX_AGE_S, most=20, clock=lambda: self.now)

    async def a_key(self) -> ApiKey:
        key, _ = issue("acme", "a test", Role.USER, datetime.now(UTC))
        await self.store.add(key)
        return key


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_key_is_read_once_for_all_who_send_it(scene: Scene) -> None:
    key = await scene.a_key()
    assert await asyncio.gather(*(scene.ring.find(key.id) for _ in range(50))) == [key] * 50
    scene.now = MAX_AGE_S / 3 - 1
    assert await scene.ring.find(key.id) == key
    assert scene.store.reads == 1


async def test_a_key_in_use_is_read_again_without_anybody_waiting(scene: Scene) -> None:
    key = await scene.a_key()
    await scene.ring.find(key.id)
    scene.now = MAX_AGE_S / 3
    scene.store.free.clear()
    assert await scene.ring.find(key.id) == key
    await until(lambda: scene.store.reads == 2)
    scene.store.free.set()
    await until(lambda: scene.store.reading == 0)


async def test_a_revoked_key_is_known_as_revoked_in_time(scene: Scene) -> None:
    key = await scene.a_key()
    await scene.ring.find(key.id)
    await scene.store.revoke("acme", key.id)
    assert await scene.ring.find(key.id) == key
    scene.now = MAX_AGE_S
    found = await scene.ring.find(key.id)
    assert found is not None
    assert found.revoked_at is not None


async def test_a_key_that_was_revoked_here_is_known_as_revoked_at_once(scene: Scene) -> None:
    key = await scene.a_key()
    scene.store.found = key
    scene.store.free.clear()
    reading = asyncio.create_task(scene.ring.find(key.id))
    await until(lambda: scene.store.reading == 1)
    revoked = await scene.store.revoke("acme", key.id)
    assert revoked is not None
    scene.ring.learn(revoked)
    assert await scene.ring.find(key.id) == revoked
    scene.store.free.set()
    assert await reading == revoked
    assert await scene.ring.find(key.id) == revoked


async def test_while_the_store_is_away_a_known_key_works_on_for_its_time_only(
    scene: Scene,
) -> None:
    key, stranger = await scene.a_key(), await scene.a_key()
    await scene.ring.find(key.id)
    scene.store.away = True
    scene.now = MAX_AGE_S - 1
    assert await scene.ring.find(key.id) == key
    with pytest.raises(StoreUnavailable):
        await scene.ring.find(stranger.id)
    scene.now = MAX_AGE_S
    with pytest.raises(StoreUnavailable):
        await scene.ring.find(key.id)
    scene.store.away = False
    assert await scene.ring.find(key.id) == key


async def test_a_store_that_is_away_is_not_asked_for_every_request(scene: Scene) -> None:
    key = await scene.a_key()
    await scene.ring.find(key.id)
    scene.store.away = True
    scene.now = MAX_AGE_S / 2
    for _ in range(100):
        await scene.ring.find(key.id)
        await asyncio.sleep(0)
    assert scene.store.reads == 2


async def test_the_same_guess_is_asked_once(scene: Scene) -> None:
    for _ in range(100):
        assert await scene.ring.find("key_guess") is None
    assert scene.store.reads == 1
    scene.now = UNKNOWN_S
    assert await scene.ring.find("key_guess") is None
    assert scene.store.reads == 2


async def test_a_flood_of_guesses_takes_few_connections_and_no_key_from_anybody(
    scene: Scene,
) -> None:
    key = await scene.a_key()
    await scene.ring.find(key.id)
    scene.store.free.clear()
    flood = [asyncio.create_task(scene.ring.find(f"key_{n}")) for n in range(200)]
    await until(lambda: scene.store.reads > 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert scene.store.reading == READERS
    scene.now = MAX_AGE_S
    mine = asyncio.create_task(scene.ring.find(key.id))
    await until(lambda: scene.store.reading == READERS + 1)
    scene.store.free.set()
    assert await mine == key
    assert await asyncio.gather(*flood) == [None] * 200
    assert len(scene.ring._unknown) == 20
    reads = scene.store.reads
    assert await scene.ring.find(key.id) == key
    assert scene.store.reads == reads


async def test_a_caller_who_leaves_does_not_end_the_read_for_others(scene: Scene) -> None:
    key = await scene.a_key()
    scene.store.free.clear()
    leaving = asyncio.create_task(scene.ring.find(key.id))
    staying = asyncio.create_task(scene.ring.find(key.id))
    await until(lambda: scene.store.reading == 1)
    leaving.cancel()
    scene.store.free.set()
    assert await staying == key
    assert scene.store.reads == 1
