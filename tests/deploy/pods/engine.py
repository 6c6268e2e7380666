"""The Docker Engine's HTTP API, as much of it as a kubelet needs.

Spoken directly and not through a client library: what a pod asks for is put into the request as it
is, and fifteen pods with a probe each second need no threads.
"""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp

_VERSION = "v1.41"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_EXEC_OUTPUT_LIMIT = 8192


class EngineError(Exception):
    """The daemon refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to be put into a container."""

    name: str
    content: bytes
    mode: int
    uid: int = 0
    gid: int = 0


class Engine:
    """One daemon; use it as `async with`. Raises `EngineError` for what the daemon refuses."""

    def __init__(self, host: str | None = None) -> None:
        self._host = host or os.environ.get("DOCKER_HOST") or _DEFAULT_HOST
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        if self._host.startswith("unix://"):
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
                self._host.removeprefix("unix://"), limit=0
            )
            base = "http://docker"
        else:
            connector = aiohttp.TCPConnector(limit=0)
            base = self._host.replace("tcp://", "http://")
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(
            base_url=f"{base}/{_VERSION}/", connector=connector, timeout=timeout
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None
    ) -> Any:
        """One call; its JSON, or None where the daemon answers nothing."""
        data = body if isinstance(body, bytes) else None
        json = None if isinstance(body, bytes) else body
        async with self._session.request(
            method, path, json=json, data=data, params=params
        ) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise EngineError(f"{method} {path}: {answer.status} {content.decode()[:500]}")
            if answer.content_type != "application/json" or not content:
                return None
            return await answer.json()

    async def has_image(self, name: str) -> bool:
        """Whether the image is there; nothing is ever pulled."""
        try:
            await self.call("GET", f"images/{quote(name, safe='')}/json")
        except EngineError:
            return False
        return True

    async def create(self, name: str, body: dict[str, Any]) -> str:
        """Make a container and start it; its id."""
        made = await self.call("POST", "containers/create", body, {"name": name})
        identity: str = made["Id"]
        await self.call("POST", f"containers/{identity}/start")
        return identity

    async def inspect(self, container: str) -> dict[str, Any]:
        """What the daemon knows about a container."""
        found: dict[str, Any] = await self.call("GET", f"containers/{container}/json")
        return found

    async def wait(self, container: str) -> int:
        """Wait until it has ended; its exit code."""
        said = await self.call("POST", f"containers/{container}/wait")
        return int(said["StatusCode"])

    async def signal(self, container: str, name: str) -> None:
        """Send a signal to its first process; one that has ended already is no error."""
        try:
            await self.call("POST", f"containers/{container}/kill", params={"signal": name})
        except EngineError as error:
            if "is not running" not in str(error) and "No such container" not in str(error):
                raise

    async def remove(self, container: str) -> None:
        """Kill it if it runs, and remove it; one that is gone is no error."""
        try:
            await self.call("DELETE", f"containers/{container}", params={"force": "true"})
        except EngineError as error:
            if "No such container" not in str(error) and "already in progress" not in str(error):
                raise

    async def put(self, container: str, directory: str, files: Iterable[File]) -> None:
        """Write files into a directory that is there already."""
        packed = await asyncio.to_thread(_tar, list(files))
        await self.call("PUT", f"containers/{container}/archive", packed, {"path": directory})

    async def logs(self, container: str) -> str:
        """Everything it wrote, both streams as they came."""
        path = f"containers/{container}/logs"
        async with self._session.get(path, params={"stdout": "1", "stderr": "1"}) as answer:
            return _plain(await answer.read()).decode(errors="replace")

    async def run(
        self, container: str, command: list[str], user: str | None = None
    ) -> tuple[int, str]:
        """Run a command inside and wait for its end; exit code and the beginning of its output."""
        asked: dict[str, Any] = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
        if user is not None:
            asked["User"] = user
        made = await self.call("POST", f"containers/{container}/exec", asked)
        path = f"exec/{made['Id']}"
        async with self._session.post(f"{path}/start", json={"Detach": False}) as answer:
            output = _plain(await answer.read())[:_EXEC_OUTPUT_LIMIT]
        ended = await self.call("GET", f"{path}/json")
        return int(ended["ExitCode"]), output.decode(errors="replace")


def _tar(files: list[File]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for file in files:
            entry = tarfile.TarInfo(file.name)
            entry.size, entry.mode = len(file.content), file.mode
            entry.uid, entry.gid = file.uid, file.gid
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _plain(framed: bytes) -> bytes:
    """Both streams without the 8 bytes before each frame that say which stream and how long."""
    found, at = bytearray(), 0
    while at + 8 <= len(framed):
        size = int.from_bytes(framed[at + 4 : at + 8])
        found += framed[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(found)
