"""A caller of its own: one search after another at a steady rate, each answer with its time.

A process of its own, so that what it measures is the ingress and not the load generator's loop. It
never repeats a request: every answer counts as it came. One JSON line for each, when it came.

    python -m tests.chaos.prober http://127.0.0.1:8080 10 probes.jsonl
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from forebay.local.child import Child
from forebay.local.environment import ROOT, base_environment
from forebay.testing.polling import pace, until

PATIENCE_S = 15.0
"""Longer than any answer may take; who gives up earlier cannot tell how late it is."""


@dataclass(frozen=True)
class Probe:
    """One request and its answer; the clock is the machine's monotonic one."""

    key: str
    sent: float
    took_s: float
    status: int
    """0 is none."""
    retry_after: str | None
    job_id: str | None

    @property
    def answered(self) -> float:
        """When the answer was there."""
        return self.sent + self.took_s


@dataclass(frozen=True)
class Prober:
    """The running process, seen through its file."""

    path: Path

    def probes(self) -> list[Probe]:
        """Every answer so far, in the order they came."""
        lines = self.path.read_text().split("\n")[:-1]  # without one that is half written
        return [Probe(**json.loads(line)) for line in lines]

    def sent_between(self, begin: float, end: float) -> list[Probe]:
        """The probes that were sent then."""
        return [probe for probe in self.probes() if begin <= probe.sent <= end]

    async def first(self, wanted: Callable[[Probe], bool], within_s: float = 60.0) -> Probe:
        """Wait for the first answer that is as wanted."""
        found: list[Probe] = []

        async def came() -> bool:
            found.extend(filter(wanted, self.probes()))
            return bool(found)

        await until(came, within_s)
        return found[0]


@asynccontextmanager
async def probing(url: str, directory: Path, per_second: float = 10) -> AsyncIterator[Prober]:
    """Probe meanwhile; at the end every answer has come."""
    path = directory / "probes.jsonl"
    path.write_text("")
    command = [sys.executable, "-m", "tests.chaos.prober", url, str(per_second), str(path)]
    child = await Child.start(command, base_environment(), ROOT, directory / "prober.log")
    try:
        prober = Prober(path)
        await prober.first(lambda probe: probe.status == 202)
        yield prober
    finally:
        assert await child.stop(PATIENCE_S + 5) == 0, child.last_line()


async def probe(session: aiohttp.ClientSession, number: int) -> Probe:
    key = f"probe-{number}"
    sent = time.monotonic()
    status, wait, job = 0, None, {}
    try:
        async with session.post(
            "/v1/search",
            json={"query": f"gauge {number}"},
            headers={"Idempotency-Key": key},
        ) as answer:
            job = await answer.json(content_type=None)
            status, wait = answer.status, answer.headers.get("Retry-After")
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass  # nothing came: status 0
    return Probe(key, sent, time.monotonic() - sent, status, wait, job.get("id"))


async def main(url: str, per_second: float, path: Path) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    with path.open("a", buffering=1) as file:
        async with (
            aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as probes,
        ):

            async def one(number: int) -> None:
                file.write(json.dumps(asdict(await probe(session, number))) + "\n")

            async for number in pace(per_second, 10_000_000):
                if ended.is_set():
                    break
                probes.create_task(one(number))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
