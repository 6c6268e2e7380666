"""Probes: one look, and the counting of looks that decides.

`look` is one probe as kubelet does it: HTTP and TCP from outside to the pod's address, a command
inside the container. `Watch` counts the outcomes against the YAML's thresholds; it knows no time.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import aiohttp

from .engine import Engine, EngineError
from .objects import Manifest, NotEmulated, only

_TIMING = {
    "failureThreshold", "initialDelaySeconds", "periodSeconds", "successThreshold",
    "terminationGracePeriodSeconds", "timeoutSeconds",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Where a container's probes go."""

    container: str
    """Docker's id."""
    ip: str
    ports: dict[str, int]


@dataclass(slots=True)
class Watch:
    """The state of one probe: None until a threshold is reached, then True or False."""

    probe: Manifest
    passing: bool | None = None
    _successes: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)

    @property
    def period_s(self) -> float:
        """Seconds between two looks."""
        return float(self.probe.get("periodSeconds", 10))

    @property
    def delay_s(self) -> float:
        """Seconds from the container's start to the first look."""
        return float(self.probe.get("initialDelaySeconds", 0))

    def count(self, passed: bool) -> None:
        """Take one look's outcome."""
        self._successes = self._successes + 1 if passed else 0
        self._failures = 0 if passed else self._failures + 1
        if self._successes >= self.probe.get("successThreshold", 1):
            self.passing = True
        elif self._failures >= self.probe.get("failureThreshold", 3):
            self.passing = False


async def look(engine: Engine, probe: Manifest, target: Target) -> str | None:
    """One look; None when it passed, else what was wrong."""
    timeout = float(probe.get("timeoutSeconds", 1))
    kinds = set(probe) - _TIMING
    try:
        async with asyncio.timeout(timeout):
            return await _look(engine, probe, kinds, target)
    except TimeoutError:
        return f"no answer within {timeout:g} s"


async def _look(engine: Engine, probe: Manifest, kinds: set[str], target: Target) -> str | None:
    if kinds == {"httpGet"}:
        return await _http(probe["httpGet"], target)
    if kinds == {"tcpSocket"}:
        return await _tcp(probe["tcpSocket"], target)
    if kinds == {"exec"}:
        return await _exec(engine, probe["exec"]["command"], target)
    raise NotEmulated(f"probe {', '.join(sorted(kinds))}")


def _port(port: int | str, target: Target) -> int:
    return target.ports[port] if isinstance(port, str) else port


async def _http(asked: Manifest, target: Target) -> str | None:
    only({"path", "port", "scheme", "httpHeaders"}, asked, "httpGet")
    if asked.get("scheme", "HTTP") != "HTTP":
        raise NotEmulated("an HTTPS probe")
    url = f"http://{target.ip}:{_port(asked['port'], target)}{asked.get('path', '/')}"
    headers = {"User-Agent": "kube-probe/1", "Connection": "close"}
    headers |= {entry["name"]: entry["value"] for entry in asked.get("httpHeaders", [])}
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(url) as answer,
        ):
            text = (await answer.text())[:200].strip()
            return None if 200 <= answer.status < 400 else f"{answer.status} {text}"
    except (aiohttp.ClientError, OSError) as error:
        return f"{type(error).__name__}: {error}"


async def _tcp(asked: Manifest, target: Target) -> str | None:
    try:
        _, writer = await asyncio.open_connection(target.ip, _port(asked["port"], target))
    except OSError as error:
        return str(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _exec(engine: Engine, command: list[str], target: Target) -> str | None:
    try:
        code, said = await engine.run(target.container, command)
    except EngineError as error:
        return str(error)
    return None if code == 0 else f"exit {code}: {said[-300:].strip()}"
