"""A server of our own in one child process: what a private broker and a private store share."""

from __future__ import annotations

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Self

from forebay.local.child import Child
from forebay.local.errors import LocalStackError

_GRACE_S = 20.0


class PrivateServer(ABC):
    """Entered means ready. May be stopped, killed, frozen and started again on the same data.

    Args:
        name: as a person knows it, for messages.
        log: where the process's own words go.
    """

    def __init__(self, name: str, log: Path) -> None:
        self._name = name
        self._log = log
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @abstractmethod
    async def start(self) -> None:
        """Start and wait until it is ready; raises `LocalStackError`."""

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def stop(self) -> None:
        """Stop in order; what is durable stays."""
        if self._child is not None:
            self.thaw()
            await self._child.stop(_GRACE_S)

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._child is not None:
            await self._child.kill()

    @property
    def name(self) -> str:
        """As a person knows it."""
        return self._name

    async def ended(self) -> str:
        """Wait until the present process ends by itself or is killed; how, in words."""
        if self._child is None:
            return "not started"
        await self._child.wait()
        return self._child.ending()

    def freeze(self) -> None:
        """Connections stay open and, from this call's return on, nothing is answered."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        if self._child is not None:
            self._child.send(signal.SIGCONT)

    async def _ready(self, child: Child, becoming: Awaitable[None], within_s: float) -> None:
        """Wait until the started child is ready; a child that does not get there is killed."""
        self._child = child
        try:
            async with asyncio.timeout(within_s):
                await becoming
        except TimeoutError:
            await child.kill()
            raise LocalStackError(
                f"{self._name} was not ready within {within_s:.0f} s; its log is {self._log}."
            ) from None
        except BaseException:
            await child.kill()
            raise

    def _check_running(self) -> None:
        """Raise `LocalStackError` when it ended by itself."""
        if self._child is not None and not self._child.running:
            raise LocalStackError(self._why_it_ended(self._child))

    def _why_it_ended(self, child: Child) -> str:
        return f"{self._name} ended at start ({child.ending()}): {child.last_line()}"
