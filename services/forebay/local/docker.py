"""Broker and store in Docker containers, by the testcontainers library.

FOREBAY_RABBITMQ_IMAGE and FOREBAY_MONGODB_IMAGE name the images; docs/testing-with-docker.md says
how to make them where no registry is reachable. The library is synchronous and runs in a thread;
it is imported only when a daemon is to be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from forebay.local.errors import ImageMissing, LocalStackError
from forebay.local.mongodb import initiate_replica_set
from forebay.local.ports import HOST
from forebay.local.rabbitmq import SHARED, Control
from forebay.local.screen import Say

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

RABBITMQ_IMAGE = "rabbitmq:4.1-management"
MONGODB_IMAGE = "mongo:8.0"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_USER = "forebay-admin"
_AMQP, _MANAGEMENT, _MONGODB = 5672, 15672, 27017
_READY_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class DockerServers:
    """Where the containers answer; the URLs have passwords inside."""

    amqp_url: str = field(repr=False)
    management_url: str = field(repr=False)
    mongodb_url: str
    control: Control


def why_docker_is_out() -> str | None:
    """None when a Docker daemon answers and the library is here, else why not in a few words."""
    host = os.environ.get("DOCKER_HOST") or _DEFAULT_HOST
    if host.startswith("unix://") and not _listens(Path(host.removeprefix("unix://"))):
        return f"no Docker daemon answers at {host}"
    try:
        from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - optional
    except ImportError:
        return "the Python package testcontainers is not installed (requirements/dev.txt has it)"
    try:
        client = DockerClient(timeout=5).client
        try:
            client.ping()
        finally:
            client.close()
    except Exception as error:  # noqa: BLE001 - the client leaks requests', urllib3's and OS errors
        return f"no Docker daemon answers at {host} ({type(error).__name__})"
    return None


def _listens(path: Path) -> bool:
    """Whether somebody listens here; the library would find out too, but leak a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def docker_servers(speak: Say, environ: Mapping[str, str]) -> AsyncIterator[DockerServers]:
    """Both containers, ready; removed with their data at the end.

    Raises `ImageMissing` when an image cannot be had, `LocalStackError` when no daemon answers or
    a container does not start.
    """
    out = await asyncio.to_thread(why_docker_is_out)
    if out is not None:
        raise LocalStackError(f"Docker cannot be used: {out}.")
    password = secrets.token_urlsafe(18)
    rabbitmq_image = environ.get("FOREBAY_RABBITMQ_IMAGE", RABBITMQ_IMAGE)
    mongodb_image = environ.get("FOREBAY_MONGODB_IMAGE", MONGODB_IMAGE)
    speak(f"Starting {rabbitmq_image} and {mongodb_image} in Docker ...")
    async with (
        _running(_mongodb(mongodb_image), speak) as mongodb,
        _running(_rabbitmq(rabbitmq_image, password), speak) as rabbitmq,
    ):
        yield await _ready(rabbitmq, mongodb, password)


async def _ready(
    rabbitmq: DockerContainer, mongodb: DockerContainer, password: str
) -> DockerServers:
    """Wait until both take work."""
    amqp, management = _address(rabbitmq, _AMQP), _address(rabbitmq, _MANAGEMENT)
    mongo = _address(mongodb, _MONGODB)
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await initiate_replica_set(mongo, member=f"{HOST}:{_MONGODB}")
            await _management_answers(f"http://{management}", password)
    except TimeoutError:
        raise LocalStackError(
            f"The containers were not ready within {_READY_WITHIN_S:.0f} s."
        ) from None
    return DockerServers(
        amqp_url=f"amqp://{_USER}:{password}@{amqp}/",
        management_url=f"http://{_USER}:{password}@{management}",
        # The set knows its member by the address inside the container: connect directly.
        mongodb_url=f"mongodb://{mongo}/?directConnection=true",
        control=_controlling(rabbitmq),
    )


def _controlling(rabbitmq: DockerContainer) -> Control:
    async def control(*command: str) -> str:
        done = await asyncio.to_thread(rabbitmq.exec, ["rabbitmqctl", *command])
        said = done.output.decode(errors="replace")
        if done.exit_code != 0:
            raise LocalStackError(f"rabbitmqctl {command[0]} failed: {said}")
        return said

    return control


def _rabbitmq(image: str, password: str) -> DockerContainer:
    return (
        _container(image, _AMQP, _MANAGEMENT)
        .with_env("RABBITMQ_DEFAULT_USER", _USER)
        .with_env("RABBITMQ_DEFAULT_PASS", password)
        .with_copy_into_container(SHARED / "rabbitmq.conf", "/etc/rabbitmq/rabbitmq.conf")
        .with_copy_into_container(SHARED / "enabled_plugins", "/etc/rabbitmq/enabled_plugins")
    )


def _mongodb(image: str) -> DockerContainer:
    command = "mongod --replSet forebay --bind_ip_all --wiredTigerCacheSizeGB 0.5"
    return _container(image, _MONGODB).with_command(command)


def _container(image: str, *ports: int) -> DockerContainer:
    """A container whose ports are published on any free ones of the host.

    Of a daemon on this machine that is its loopback only: Docker opens published ports to the
    network, past firewalls, and the store asks for no password.
    """
    from testcontainers.core.config import ConnectionMode  # noqa: PLC0415 - optional
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - optional

    container = DockerContainer(image).with_exposed_ports(*ports)
    client = container.get_docker_client()
    direct = client.get_connection_mode() is ConnectionMode.docker_host
    if direct and client.host() in {"localhost", HOST}:
        # The library's annotation knows numbers only; Docker's client takes an address as well.
        container.ports = {str(port): (HOST,) for port in ports}  # type: ignore[misc]
    return container


@contextlib.asynccontextmanager
async def _running(container: DockerContainer, speak: Say) -> AsyncIterator[DockerContainer]:
    starting = asyncio.ensure_future(asyncio.to_thread(_start, container, speak))
    try:
        await asyncio.shield(starting)
        yield container
    finally:
        # A start that was canceled goes on in its thread; only when it is over can it be undone.
        # Stopping closes the client too, so it is due after a start that failed as well.
        await asyncio.wait([starting])
        await asyncio.to_thread(container.stop)


def _start(container: DockerContainer, speak: Say) -> None:
    """Start it, with its image pulled first if need be."""
    # Optional, and without types of its own.
    from docker.errors import (  # type: ignore[import-untyped]  # noqa: PLC0415
        DockerException,
        ImageNotFound,
    )

    client = container.get_docker_client().client
    try:
        try:
            client.images.get(container.image)
        except ImageNotFound:
            speak(f"Docker does not have {container.image} yet: pulling it ...")
            client.images.pull(container.image)
    except DockerException as error:
        raise ImageMissing(
            f"Docker cannot get the image {container.image}: {_reason(error)}"
        ) from error
    try:
        container.start()
    except Exception as error:
        raise LocalStackError(f"Docker cannot start {container.image}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The daemon's own words where there are any, without the address they came from."""
    said = str(getattr(error, "explanation", None) or error)
    return said.splitlines()[0] if said else type(error).__name__


def _address(container: DockerContainer, port: int) -> str:
    host = container.get_container_host_ip()
    return f"{HOST if host == 'localhost' else host}:{container.get_exposed_port(port)}"


async def _management_answers(url: str, password: str) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth(_USER, password)}
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/api/health/checks/virtual-hosts") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)
