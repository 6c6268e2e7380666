"""Processes, store and broker may start in any order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from forebay.local.mongodb import MongoServer
from forebay.local.ports import Ports
from forebay.local.servers import Servers
from forebay.testing.polling import until
from tests.broker_world import PASSWORDS, RabbitWorld, open_world
from tests.ingress_process import NOBODY, environment, free_port, start

Subprocess = asyncio.subprocess.Process
PROBED = ("search_worker", "reconciler")


@asynccontextmanager
async def probed(
    name: str, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process with a probe port, and where that is; killed at the end if it is still there."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", name,
        env=environment(PROBE_PORT=str(port), MONGODB_TIMEOUT_S="0.5", **settings),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def asked(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Status and text; 0 while nobody listens."""
    try:
        async with session.get(url) as answer:
            return answer.status, (await answer.text()).strip()
    except aiohttp.ClientConnectorError:
        return 0, ""


async def until_ready(session: aiohttp.ClientSession, url: str, *, says: str) -> None:
    async def ready() -> bool:
        return says in f"{await asked(session, f'{url}/readyz')}"

    await until(ready)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[RabbitWorld]:
    async with open_world(servers) as opened:
        yield opened


async def test_a_store_that_starts_last_is_waited_for_by_all(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    store = MongoServer(tmp_path, Ports(lambda _: None))
    urls = {"MONGODB_URL": store.url, "AMQP_URL": NOBODY}
    ingress = await start(MONGODB_TIMEOUT_S="0.5", **urls)
    async with (
        probed("search_worker", **urls) as (_, worker),
        probed("reconciler", **urls) as (
            reconciling,
            reconciler,
        ),
    ):
        for url in (worker, reconciler):
            await until_ready(session, url, says="the store does not take work yet: MongoDB at ")
            assert await asked(session, f"{url}/livez") == (200, "ok")
            assert (await asked(session, f"{url}/readyz"))[0] == 503
        assert await asked(session, f"{ingress.url}/livez") == (0, "")
        async with store:
            await ingress.ready(session)
            await until_ready(session, reconciler, says="(200, 'ok')")
            # It has its store, and goes on with what is next.
            await until_ready(session, worker, says="cannot connect to amqp://nobody@127.0.0.1:1/")
            ingress.ask_to_stop()
            reconciling.terminate()
            code, errors = await ingress.ended()
            assert code == 0, errors
            assert await reconciling.wait() == 0


@pytest.mark.parametrize("name", PROBED)
async def test_a_stop_ends_the_waiting_for_a_store(
    session: aiohttp.ClientSession, name: str
) -> None:
    urls = {"MONGODB_URL": "mongodb://127.0.0.1:1/", "AMQP_URL": NOBODY}
    async with probed(name, **urls) as (process, url):
        await until_ready(session, url, says="does not take work yet")
        process.terminate()
        async with asyncio.timeout(15):
            assert await process.wait() == 0


@pytest.mark.parametrize("name", PROBED)
async def test_a_store_that_will_never_do_is_exit_1(name: str, standalone_url: str) -> None:
    async with probed(name, MONGODB_URL=standalone_url, AMQP_URL=NOBODY) as (process, _):
        async with asyncio.timeout(30):
            assert await process.wait() == 1


async def test_a_worker_whose_user_and_queue_come_late_becomes_ready_by_itself(
    session: aiohttp.ClientSession, mongodb_url: str, world: RabbitWorld
) -> None:
    user = f"late-{world.vhost}"
    amqp = world.settings("worker").amqp_url.get_secret_value()
    amqp = amqp.replace("forebay-worker:", f"{user}:")
    queue = f"queues/{world.vhost}/forebay.search.bulk"
    await world.management.delete(queue)
    settings = {"AMQP_URL": amqp, "MONGODB_URL": mongodb_url, "MONGODB_DATABASE": world.vhost}
    try:
        async with probed("search_worker", **settings) as (process, url):
            await until_ready(session, url, says=f"cannot connect to amqp://{user}@")
            password = PASSWORDS["worker"].get_secret_value()
            await world.management.put(f"users/{user}", json={"password": password, "tags": ""})
            rights = {"configure": "^$", "write": ".*", "read": ".*"}
            await world.management.put(f"permissions/{world.vhost}/{user}", json=rights)
            await until_ready(session, url, says="forebay.search.bulk")
            status, said = await asked(session, f"{url}/readyz")
            assert status == 503
            assert "run `forebay topology apply`" in said
            assert "forebay.search.default" not in said
            await world.declare()
            await until_ready(session, url, says="(200, 'ok')")
            process.terminate()
            assert await process.wait() == 0
    finally:
        await world.management.delete(f"users/{user}")
        await _drop(mongodb_url, world.vhost)


async def _drop(url: str, database: str) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    async with client:
        await client.drop_database(database)
