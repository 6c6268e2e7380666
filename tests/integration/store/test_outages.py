from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from forebay.errors import StoreError, StoreOverloaded, StoreUnavailable
from forebay.local.mongodb import MongoServer
from forebay.store import Inserted
from forebay.store.group_commit import GroupCommit
from forebay.store.mongo import MongoJobStore, open_store
from tests.broker_world import Log
from tests.contract.store.jobs import a_job
from tests.integration.store.conftest import settings_for

ANSWER_WITHIN_S = 3.0

# PyMongo 4.20 leaves a socket to the garbage collector when a connect under way is canceled by
# close(); the collection below keeps the warning inside the tests that provoke it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def sockets_the_driver_left() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
async def store(own_mongodb: MongoServer, driver: str) -> AsyncIterator[MongoJobStore]:
    """Not the shared server's: these tests freeze and kill theirs."""
    async with open_store(settings_for(own_mongodb.url, driver)) as store:
        await store.prepare()
        yield store


@pytest.fixture
async def frozen(own_mongodb: MongoServer, store: MongoJobStore) -> AsyncIterator[MongoJobStore]:
    """A store that was used, on a server that then stopped answering."""
    await store.ping()
    own_mongodb.freeze()
    yield store
    own_mongodb.thaw()


async def until_it_answers(store: MongoJobStore) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.ping()
            except StoreUnavailable:
                continue


async def test_a_frozen_server_is_unavailable_within_three_seconds_and_recovers(
    own_mongodb: MongoServer, frozen: MongoJobStore
) -> None:
    job = a_job()
    began = time.monotonic()
    calls = (frozen.ping(), frozen.get("default", job.id), frozen.insert([job]))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < ANSWER_WITHIN_S
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    own_mongodb.thaw()
    await until_it_answers(frozen)
    assert await frozen.insert([job]) == [Inserted()]
    assert await frozen.get("default", job.id) == job


async def test_two_hundred_calls_at_once_on_a_frozen_server_do_not_pile_up(
    frozen: MongoJobStore,
) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(
        *(frozen.get("default", f"job_{n}") for n in range(200)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert time.monotonic() - began < ANSWER_WITHIN_S + 0.5


async def test_a_server_that_is_not_there_is_unavailable(driver: str) -> None:
    async with open_store(settings_for("mongodb://127.0.0.1:9/?replicaSet=x", driver)) as store:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as away:
            await store.prepare()
        assert time.monotonic() - began < ANSWER_WITHIN_S
        assert away.value.__cause__ is not None


async def test_a_group_commit_survives_a_killed_server_and_loses_nothing_it_acknowledged(
    own_mongodb: MongoServer, store: MongoJobStore
) -> None:
    jobs = [a_job() for _ in range(3000)]
    acknowledged: list[str] = []
    failed: list[StoreError] = []
    some = asyncio.Event()

    async def submit(number: int, commit: GroupCommit) -> None:
        try:
            await commit.insert(jobs[number])
            acknowledged.append(jobs[number].id)
        except StoreError as error:
            failed.append(error)
        if len(acknowledged) > 200:
            some.set()

    async with GroupCommit(store, max_jobs=50) as commit:
        submitting = asyncio.gather(*(submit(n, commit) for n in range(len(jobs))))
        await some.wait()
        await own_mongodb.kill()
        await submitting
        assert failed, "the kill came too late to be seen: the run proves nothing"
        assert all(isinstance(error, (StoreUnavailable, StoreOverloaded)) for error in failed)
        await own_mongodb.start()
        await until_it_answers(store)
        assert await commit.insert(a_job()) == Inserted()
    missing = [i for i in acknowledged if await store.get("default", i) is None]
    assert missing == []


async def test_an_unknown_answer_can_be_repeated_after_a_kill(
    own_mongodb: MongoServer, store: MongoJobStore
) -> None:
    jobs = [a_job() for _ in range(200)]
    inserting = asyncio.create_task(store.insert(jobs))
    await asyncio.sleep(0)
    await own_mongodb.kill()
    await asyncio.gather(inserting, return_exceptions=True)
    await own_mongodb.start()
    await until_it_answers(store)
    assert await store.insert(jobs) == [Inserted()] * len(jobs)
    assert await store.finished([job.id for job in jobs]) == frozenset()


async def test_it_is_said_once_that_the_store_is_lost_and_once_that_it_is_found(
    own_mongodb: MongoServer, driver: str
) -> None:
    log = Log()
    async with open_store(settings_for(own_mongodb.url, driver), log.logger) as store:
        await asyncio.gather(*(store.ping() for _ in range(20)))
        assert log.lines == []
        await own_mongodb.kill()
        for _ in range(2):
            asked = (store.get("default", f"job_{n}") for n in range(50))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert [event["event"] for event in log.lines] == ["store.lost"]
        await own_mongodb.start()
        await until_it_answers(store)
        await asyncio.gather(*(store.ping() for _ in range(20)))
    assert [event["event"] for event in log.lines] == ["store.lost", "store.found"]
    hosts = own_mongodb.url.partition("://")[2].partition("/")[0]
    assert {event["hosts"] for event in log.lines} == {hosts}
    assert log.lines[0]["reason"].startswith(f"MongoDB at {hosts}: ")


async def test_calls_that_take_too_long_are_no_loss_of_the_store(
    own_mongodb: MongoServer, driver: str
) -> None:
    log = Log()
    async with open_store(settings_for(own_mongodb.url, driver), log.logger) as store:
        await store.ping()
        own_mongodb.freeze()
        try:
            with pytest.raises(StoreUnavailable, match=r"no answer in time \(NetworkTimeout\)"):
                await store.ping()
        finally:
            own_mongodb.thaw()
        await until_it_answers(store)
    assert log.lines == []


@pytest.mark.parametrize("more", ["", "&directConnection=true"])
async def test_a_wrong_name_of_the_replica_set_is_said_with_the_right_one(
    own_mongodb: MongoServer, driver: str, more: str
) -> None:
    url = own_mongodb.url.replace("replicaSet=forebay", f"replicaSet=rs0{more}")
    async with open_store(settings_for(url, driver, mongodb_timeout_s=1)) as store:
        with pytest.raises(
            StoreUnavailable,
            match="its replica set is 'forebay', and replicaSet in FOREBAY_MONGODB_URL says 'rs0'",
        ):
            await store.ping()


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("127.0.0.1:9", "nobody listens there"),
        ("store.invalid:27017", "the name is not known"),
        ("u:hunter2@127.0.0.1:9", "nobody listens there"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_named_and_the_reason_is_said(
    driver: str, where: str, why: str
) -> None:
    url = f"mongodb://{where}/?replicaSet=x"
    async with open_store(settings_for(url, driver, mongodb_timeout_s=1)) as store:
        with pytest.raises(StoreUnavailable) as away:
            await store.ping()
    hosts = where.rpartition("@")[2]
    assert str(away.value) == f"MongoDB at {hosts}: {why} (ServerSelectionTimeoutError)"


async def test_hosts_that_fail_in_different_ways_are_told_apart(driver: str) -> None:
    url = "mongodb://127.0.0.1:9,store.invalid:5/?replicaSet=x"
    async with open_store(settings_for(url, driver, mongodb_timeout_s=1)) as store:
        with pytest.raises(StoreUnavailable) as away:
            await store.ping()
    assert "127.0.0.1:9: nobody listens there" in str(away.value)
    assert "store.invalid:5: the name is not known" in str(away.value)
