"""Containers of the image as a cluster would run them: no capability, nothing writable at all."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = os.environ.get("FOREBAY_IMAGE") or f"forebay:{VERSION}"
LOAD_IMAGE = os.environ.get("FOREBAY_LOAD_IMAGE") or f"forebay-load:{VERSION}"


@contextmanager
def daemon() -> Iterator[Any]:
    """Docker's client."""
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 - optional

    client = DockerClient().client
    try:
        yield client
    finally:
        client.close()


def need_image(client: Any, image: str) -> Any:
    """The image, or the test is skipped and the reason says how to make it."""
    from docker.errors import ImageNotFound  # noqa: PLC0415 - optional

    try:
        return client.images.get(image)
    except ImageNotFound:
        pytest.skip(f"needs the image {image}; `make image` makes it")


@dataclass(slots=True)
class Box:
    """One container on the host's network."""

    container: Any

    @property
    def log(self) -> str:
        """All that it said."""
        return str(self.container.logs().decode())

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log that are JSON."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """The last event of that name."""
        return [event for event in self.events() if event.get("event") == name][-1]

    def running(self) -> bool:
        """Whether its process is still there."""
        self.container.reload()
        return str(self.container.status) == "running"

    def exec(self, *command: str) -> tuple[int, str]:
        """Run a command beside its process: exit code and what it said."""
        code, said = self.container.exec_run(list(command))
        return code, said.decode()

    async def ask_to_stop(self) -> None:
        """SIGTERM to its first process."""
        await asyncio.to_thread(self.container.kill, "SIGTERM")

    async def ended(self, within_s: float) -> int:
        """Its exit code."""
        result = await asyncio.to_thread(self.container.wait, timeout=within_s)
        return int(result["StatusCode"])


@dataclass(slots=True)
class Boxes:
    """Starts containers; all are removed by `clear`."""

    client: Any
    made: list[Box] = field(default_factory=list)

    async def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, image: str = IMAGE
    ) -> Box:
        """A container that runs this command; it may use 512 MiB and write nothing."""
        container = await asyncio.to_thread(
            self.client.containers.create,
            image,
            list(command),
            environment=dict(env or {}),
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            mem_limit="512m",
            network_mode="host",
        )
        self.made.append(Box(container))
        await asyncio.to_thread(container.start)
        return self.made[-1]

    async def run(self, *command: str, image: str = IMAGE) -> tuple[int, str]:
        """Run a command to its end: exit code and what it said."""
        box = await self.start(command, image=image)
        return await box.ended(60), box.log

    async def clear(self) -> None:
        """Remove all of them."""
        for box in self.made:
            await asyncio.to_thread(box.container.remove, force=True, v=True)
        self.made.clear()
