"""One child process that cannot outlive us.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches only us and we end
the children in order. The kernel kills a child when we die in any way (`setpriv --pdeathsig`,
util-linux); the signal belongs to the thread that started the child, so start children from the
main thread. What a child itself started is swept by killing its process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from forebay.local.errors import LocalStackError

_TAIL_BYTES = 4096


class Child:
    """A started process; stdout and stderr are appended to its log file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path
    ) -> Self:
        """Start it; raises `LocalStackError` when the command is not there."""
        tether = [_setpriv(), "--pdeathsig", "KILL", "--"]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *tether,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process's id; `setpriv` replaced itself by the command."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for its end: the exit code, or minus the signal's number."""
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            # Not by the library's own way, which looks first whether the process ended and, if it
            # just did, takes its exit code away from whoever waits for it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP, and wait until its last thread stands still: a few milliseconds at most.

        The signal alone is only a request: a thread on the other core still answers meanwhile.
        """
        self.send(signal.SIGSTOP)
        # WEXITED because one that just ended will never stand still; WNOWAIT leaves its exit code
        # to whoever waits for it.
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, how)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM, up to `grace_s` seconds, then SIGKILL for it and whatever it started."""
        # A frozen process would keep SIGTERM pending for ever.
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            return await self.kill()
        finally:
            self._sweep()

    async def kill(self) -> int:
        """SIGKILL for it and whatever it started."""
        self._sweep()
        return await self.wait()

    def ending(self) -> str:
        """How it ended, in words: `exit code 1` or `SIGKILL`."""
        code = self._process.returncode
        if code is None:
            return "still running"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def last_line(self) -> str:
        """The last line of its log, or an empty text."""
        return last_line(self._log)

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def last_line(log: Path) -> str:
    """The last line of a log file that is not blank; an empty text when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _setpriv() -> str:
    found = shutil.which("setpriv")
    if found is None:
        raise LocalStackError(
            "`setpriv` is missing; it comes with util-linux on every Linux distribution. "
            "The local stack needs Linux."
        )
    return found
