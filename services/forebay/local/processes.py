"""Keeps our processes running: start in order, restart what dies, end all in order.

`processes.json` names the process ids at any moment; it is replaced as a whole, never half
written. A death is said on the screen with the last line of the process's log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from forebay.local.child import Child
from forebay.local.errors import LocalStackError
from forebay.local.screen import Say, say
from forebay.local.together import together

_READY_WITHIN_S = 90.0  # about 5 s on idle cores; the tests share them
PAUSES_S = (0.2, 5.0)
"""Before a dead process is started again: the first time, and at most, in seconds."""
_STEADY_S = 10.0  # who ran this long gets the first backoff again


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process of ours; ready when `ready_url` answers 200, at once when there is none."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    ready_url: str | None = None


@dataclass(slots=True)
class _Kept:
    """A process under watch: its present child, and the task that replaces it."""

    spec: ProcessSpec
    child: Child
    keeper: asyncio.Task[None] | None = None
    ending: bool = False
    told: Mapping[str, str] = field(default_factory=dict)
    """Settings from the next start on, over those of `spec`."""
    endings: list[str] = field(default_factory=list)


class Supervisor:
    """Starts and keeps processes; entered, it ends them all on leaving.

    Logs go to `directory/logs/<name>.log`.

    Args:
        directory: for `processes.json` and the logs.
        cwd: where the processes run.
        grace_s: how long a process may take after SIGTERM.
        speak: where a death is said.
        pauses_s: before a dead process is started again: the first time, and at most; the pause
            doubles from one to the other.
    """

    def __init__(
        self,
        directory: Path,
        cwd: Path,
        grace_s: float = 15.0,
        speak: Say = say,
        pauses_s: tuple[float, float] = PAUSES_S,
    ) -> None:
        self._directory = directory
        self._cwd = cwd
        self._grace_s = grace_s
        self._speak = speak
        self._pauses_s = pauses_s
        self._kept: dict[str, _Kept] = {}

    async def __aenter__(self) -> Self:
        (self._directory / "logs").mkdir(parents=True, exist_ok=True)
        self._write()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop(*self._kept)

    async def start(self, *specs: ProcessSpec) -> None:
        """Start these together and wait until all are ready; raises `LocalStackError`."""
        for spec in specs:
            log = self.log(spec.name)
            log.unlink(missing_ok=True)
            self._kept[spec.name] = _Kept(spec, await self._spawn(spec))
        self._write()
        await together(*(self._until_ready(self._kept[spec.name]) for spec in specs))
        for spec in specs:
            kept = self._kept[spec.name]
            kept.keeper = asyncio.create_task(self._keep(kept), name=f"keep {spec.name}")

    async def run_once(self, spec: ProcessSpec) -> None:
        """Run a command to its end; raises `LocalStackError` when it fails."""
        child = await self._spawn(spec)
        try:
            code = await child.wait()
        except BaseException:
            await child.kill()
            raise
        if code != 0:
            raise LocalStackError(self._failed(spec.name, child))

    def pids(self, name: str) -> tuple[int, ...]:
        """The process ids of that name now; empty while it is being restarted."""
        child = self._kept[name].child
        return (child.pid,) if child.running else ()

    def log(self, name: str) -> Path:
        """The log file of that name."""
        return self._directory / "logs" / f"{name}.log"

    def send(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process of that name."""
        self._kept[name].child.send(number)

    def tell(self, name: str, env: Mapping[str, str]) -> None:
        """Settings of that process from its next start on, in place of those told before."""
        self._kept[name].told = dict(env)

    def told(self, name: str) -> Mapping[str, str]:
        """Everything that process is told at its next start; passwords are among it."""
        kept = self._kept[name]
        return {**kept.spec.env, **kept.told}

    def endings(self, name: str) -> Sequence[str]:
        """How the processes of that name ended so far, in words: `exit code 0`, `SIGKILL`."""
        return tuple(self._kept[name].endings)

    async def stop(self, *names: str) -> None:
        """End these together: SIGTERM, the grace, SIGKILL; they are not restarted."""
        chosen = [self._kept.pop(name) for name in names if name in self._kept]
        for kept in chosen:
            kept.ending = True
            if kept.keeper is not None:
                kept.keeper.cancel()
        await asyncio.gather(
            *(kept.keeper for kept in chosen if kept.keeper is not None), return_exceptions=True
        )
        await asyncio.gather(*(kept.child.stop(self._grace_s) for kept in chosen))
        self._write()

    async def _spawn(self, spec: ProcessSpec) -> Child:
        return await Child.start(spec.command, spec.env, self._cwd, self.log(spec.name))

    async def _keep(self, kept: _Kept) -> None:
        (first_s, most_s), name = self._pauses_s, kept.spec.name
        pause_s = first_s
        started = time.monotonic()
        while not kept.ending:
            await kept.child.wait()
            self._write()
            if time.monotonic() - started > _STEADY_S:
                pause_s = first_s
            kept.endings.append(kept.child.ending())
            line = kept.child.last_line() or "nothing in its log"
            self._speak(f"{name} ended ({kept.child.ending()}); restarting it. Last line: {line}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, most_s)
            started = time.monotonic()
            kept.child = await self._spawn(replace(kept.spec, env=self.told(name)))
            self._write()
            self._speak(f"{name} runs again (process {kept.child.pid}).")

    async def _until_ready(self, kept: _Kept) -> None:
        url, said = kept.spec.ready_url, "nothing"
        if url is None:
            return
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                asyncio.timeout(_READY_WITHIN_S),
                aiohttp.ClientSession(timeout=timeout) as session,
            ):
                while (said := await _answer(session, url)) != "":
                    if not kept.child.running:
                        raise LocalStackError(self._failed(kept.spec.name, kept.child))
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise LocalStackError(
                f"{kept.spec.name} was not ready within {_READY_WITHIN_S:.0f} s: {said}. "
                f"Its log is {self.log(kept.spec.name)}."
            ) from None

    def _failed(self, name: str, child: Child) -> str:
        line = child.last_line() or "nothing in its log"
        return f"{name} could not start ({child.ending()}): {line}\nIts log is {self.log(name)}."

    def _write(self) -> None:
        write_json(
            self._directory / "processes.json", {name: list(self.pids(name)) for name in self._kept}
        )


async def _answer(session: aiohttp.ClientSession, url: str) -> str:
    """What keeps the process from being ready; empty when it is."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with session.get(url) as answer:
            return "" if answer.status == 200 else (await answer.text()).strip()[:200]
    return f"no answer from {url}"


def write_json(path: Path, value: object) -> None:
    """Replace a file by this value as JSON, whole or not at all; only the owner may read it."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(value, indent=2) + "\n")
    new.replace(path)
