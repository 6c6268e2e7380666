"""The servers in Docker, of the images that FOREBAY_RABBITMQ_IMAGE and FOREBAY_MONGODB_IMAGE name.

Where the daemon answers and cannot get the images, what needs them is skipped, by name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from pymongo import AsyncMongoClient, WriteConcern

from forebay.broker.management import TopologySettings, open_management
from forebay.local.docker import docker_servers
from forebay.local.errors import ImageMissing, LocalStackError
from forebay.local.servers import Origin, Servers, servers

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

NOWHERE = "registry.invalid/forebay/none:0"
"""An image that nobody has: names under .invalid do not resolve (RFC 6761)."""


@pytest.fixture(scope="module")
async def in_docker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    environ = {**os.environ, "FOREBAY_SERVERS": "docker"}
    directory = tmp_path_factory.mktemp("docker")
    try:
        async with servers(directory, environ=environ, speak=lambda _: None) as found:
            yield found
    except ImageMissing as error:
        pytest.skip(f"needs Docker images: {error}")


@contextmanager
def _daemon() -> Iterator[Any]:
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - optional

    client = DockerClient().client
    try:
        yield client
    finally:
        client.close()


def _containers() -> set[str]:
    """The ids of all containers, running or not."""
    with _daemon() as client:
        return {one.id for one in client.containers.list(all=True)}


async def test_a_container_has_management_quorum_queues_and_our_administrator(in_docker: Servers):
    assert in_docker.origin is Origin.DOCKER
    settings = TopologySettings.model_validate(
        {"rabbitmq_management_url": in_docker.management_url}
    )
    async with open_management(settings) as management:
        users = (await management.get("users")).json()
        assert [user["name"] for user in users] == ["forebay-admin"]
    connection = await aio_pika.connect(in_docker.amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            "kept", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await channel.default_exchange.publish(aio_pika.Message(b"water"), "kept")
        assert (await queue.get(no_ack=True)).body == b"water"


async def test_a_container_takes_majority_writes(in_docker: Servers):
    async with AsyncMongoClient(in_docker.mongodb_url) as client:
        things = client.get_database("kept", write_concern=WriteConcern("majority", j=True)).things
        assert (await things.insert_one({"_id": 1})).acknowledged


async def test_rabbitmqctl_speaks_in_the_container_and_says_what_it_refuses(in_docker: Servers):
    assert in_docker.control is not None
    assert "forebay-admin" in await in_docker.control("list_users")
    with pytest.raises(LocalStackError, match="rabbitmqctl authenticate_user failed"):
        await in_docker.control("authenticate_user", "nobody", "nothing")


async def test_a_container_is_told_what_every_broker_of_ours_is_told(in_docker: Servers):
    assert in_docker.control is not None
    asked = "element(2, application:get_env(rabbit, vm_memory_high_watermark))."
    assert (await in_docker.control("eval", asked)).strip() == '{absolute,"600MB"}'


def test_of_a_daemon_on_this_machine_nothing_is_open_to_the_network(in_docker: Servers):
    found = urlsplit(in_docker.amqp_url)
    if found.hostname != "127.0.0.1":
        pytest.skip(f"the containers are reached at {found.hostname}")
    with _daemon() as client:
        published = [
            {binding["HostPort"]: binding["HostIp"] for bound in one.ports.values() if bound
             for binding in bound}
            for one in client.containers.list()
        ]  # fmt: skip
    (broker,) = [one for one in published if str(found.port) in one]
    assert set(broker.values()) == {"127.0.0.1"}
    assert len(broker) == 2


async def _start_and_cancel() -> None:
    said = asyncio.Event()

    def speak(_: str) -> None:
        said.set()

    async def start() -> None:
        async with docker_servers(speak, os.environ):
            pytest.fail("it was not canceled")

    starting = asyncio.create_task(start())
    await said.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


@pytest.mark.usefixtures("in_docker")
async def test_a_start_that_is_canceled_leaves_no_container():
    before = _containers()
    # A loop of its own, which ends when its threads have: what they made late is seen.
    await asyncio.to_thread(asyncio.run, _start_and_cancel())
    assert _containers() == before


async def test_an_image_that_cannot_be_had_is_passed_over_for_the_machine_and_that_is_said(
    tmp_path: Path,
):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    environ = {**kept, "FOREBAY_MONGODB_IMAGE": NOWHERE}
    before = _containers()
    lines: list[str] = []
    async with servers(tmp_path, environ=environ, speak=lines.append) as found:
        assert found.origin is Origin.MACHINE
        async with AsyncMongoClient(found.mongodb_url) as client:
            assert (await client.admin.command("ping"))["ok"] == 1
    assert any(line.startswith(f"Docker cannot get the image {NOWHERE}: ") for line in lines)
    assert "RabbitMQ and MongoDB: from this machine instead." in lines
    assert _containers() == before


async def test_where_docker_is_asked_for_a_missing_image_is_an_error_that_names_it(tmp_path: Path):
    environ = {**os.environ, "FOREBAY_SERVERS": "docker", "FOREBAY_MONGODB_IMAGE": NOWHERE}
    with pytest.raises(ImageMissing, match=NOWHERE):
        async with servers(tmp_path, environ=environ, speak=lambda _: None):
            pytest.fail("there is no such image")
