"""A broker and a store for the local stack and for tests: from URLs, Docker or the machine.

In this order, or the one that FOREBAY_SERVERS names (`urls`, `docker`, `machine`). A Docker that
answers but cannot start the images is passed over for the machine, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from forebay.local.docker import docker_servers, why_docker_is_out
from forebay.local.errors import LocalStackError
from forebay.local.mongodb import MongoServer, find_mongod
from forebay.local.packages import CHOICES, ensure_machine_servers
from forebay.local.ports import Ports
from forebay.local.rabbitmq import Control, RabbitMQNode
from forebay.local.screen import Say, say
from forebay.local.together import together


class Origin(StrEnum):
    """Where the servers come from."""

    URLS = "urls"
    DOCKER = "docker"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Servers:
    """A running broker and store. The URLs have passwords inside.

    `management_url` is empty when only an AMQP URL was given. `rabbitmq` and `mongodb` are there
    for servers of the machine, to be stopped, killed, frozen and started again. `control` is the
    broker's command line, None when only its URL was given.
    """

    amqp_url: str = field(repr=False)
    management_url: str = field(repr=False)
    mongodb_url: str = field(repr=False)
    origin: Origin
    rabbitmq: RabbitMQNode | None = None
    mongodb: MongoServer | None = None
    control: Control | None = None


@contextlib.asynccontextmanager
async def servers(
    directory: Path,
    *,
    ports: Ports | None = None,
    speak: Say = say,
    environ: Mapping[str, str] = os.environ,
) -> AsyncIterator[Servers]:
    """Enter a broker and a store that are ready; data and logs of private ones under `directory`.

    Raises `LocalStackError` with what to do when there is no way to get them.
    """
    origin, reason = await choose(environ)
    speak(f"RabbitMQ and MongoDB: {reason}.")
    async with contextlib.AsyncExitStack() as stack:
        if origin is Origin.DOCKER:
            try:
                found = await stack.enter_async_context(_from_docker(speak, environ))
            except LocalStackError as error:
                if environ.get("FOREBAY_SERVERS") == Origin.DOCKER:
                    raise
                speak(f"{error}")
                speak("RabbitMQ and MongoDB: from this machine instead.")
                origin = Origin.MACHINE
        if origin is Origin.URLS:
            found = _from_urls(environ)
        elif origin is Origin.MACHINE:
            found = await stack.enter_async_context(
                _from_machine(directory, ports or Ports(speak), speak)
            )
        yield found


async def choose(environ: Mapping[str, str]) -> tuple[Origin, str]:
    """Which way it is, and why in a few words; raises `LocalStackError` for a wrong setting."""
    forced = environ.get("FOREBAY_SERVERS", "")
    if forced:
        if forced not in list(Origin):
            raise LocalStackError(
                f"FOREBAY_SERVERS is '{forced}'; it can be urls, docker or machine."
            )
        return Origin(forced), f"{_WHERE[Origin(forced)]}, as FOREBAY_SERVERS says"
    given = [name for name in _URLS if environ.get(name)]
    if len(given) == len(_URLS):
        return Origin.URLS, f"{_WHERE[Origin.URLS]}, because {' and '.join(_URLS)} are set"
    if given:
        missing = next(name for name in _URLS if name not in given)
        raise LocalStackError(f"{given[0]} is set and {missing} is not; set both or none.")
    out = await asyncio.to_thread(why_docker_is_out)
    if out is None:
        return Origin.DOCKER, f"{_WHERE[Origin.DOCKER]}, because a daemon answers"
    return Origin.MACHINE, f"{_WHERE[Origin.MACHINE]}, because {out}"


_URLS = ("FOREBAY_AMQP_URL", "FOREBAY_MONGODB_URL")
_WHERE = {
    Origin.URLS: "the given servers",
    Origin.DOCKER: "in Docker",
    Origin.MACHINE: "private ones from this machine's packages",
}


def _from_urls(environ: Mapping[str, str]) -> Servers:
    missing = [name for name in _URLS if not environ.get(name)]
    if missing:
        raise LocalStackError(f"{' and '.join(missing)} must be set.\n{CHOICES}")
    return Servers(
        amqp_url=environ["FOREBAY_AMQP_URL"],
        management_url=environ.get("FOREBAY_RABBITMQ_MANAGEMENT_URL", "").rstrip("/"),
        mongodb_url=environ["FOREBAY_MONGODB_URL"],
        origin=Origin.URLS,
    )


@contextlib.asynccontextmanager
async def _from_docker(speak: Say, environ: Mapping[str, str]) -> AsyncIterator[Servers]:
    async with docker_servers(speak, environ) as found:
        yield Servers(
            amqp_url=found.amqp_url,
            management_url=found.management_url,
            mongodb_url=found.mongodb_url,
            origin=Origin.DOCKER,
            control=found.control,
        )


@contextlib.asynccontextmanager
async def _from_machine(directory: Path, ports: Ports, speak: Say) -> AsyncIterator[Servers]:
    await ensure_machine_servers(find_mongod(), speak)
    rabbitmq = RabbitMQNode(directory / "rabbitmq", ports, speak)
    mongodb = MongoServer(directory / "mongodb", ports, speak)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_stop_both, rabbitmq, mongodb)
        # Both at once: the broker takes about 5 s, the store about 1 s.
        await together(rabbitmq.start(), mongodb.start())
        yield Servers(
            amqp_url=rabbitmq.amqp_url,
            management_url=rabbitmq.management_url,
            mongodb_url=mongodb.url,
            origin=Origin.MACHINE,
            rabbitmq=rabbitmq,
            mongodb=mongodb,
            control=rabbitmq.control,
        )


async def _stop_both(rabbitmq: RabbitMQNode, mongodb: MongoServer) -> None:
    await asyncio.gather(rabbitmq.stop(), mongodb.stop())
