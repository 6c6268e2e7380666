"""A caller of its own: one search after another at a steady rate, each answer with its time.

A process of its own, so that what it measures is the ingress and not the load generator's loop. It
never repeats a request: every answer counts as it came. One JSON line for each, when it came; the
keys are numbered from 0 in the order of sending, so a line that is missing tells of a caller who
still waits.

A busy machine lets this process wait, too. How long its own loop stood still at either end of a
probe is in the line, so that the ingress is not blamed for it.

    python -m tests.chaos.prober http://127.0.0.1:8080 10 probes.jsonl
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp

from forebay.local.child import Child
from forebay.local.environment import ROOT, base_environment
from forebay.tasks import end
from forebay.testing.polling import pace, until

PATIENCE_S = 15.0
"""Longer than any answer may take; who gives up earlier cannot tell how late it is."""
BEAT_S = 0.02
NEAR_S = 0.1
"""A halt of our loop so near to an end of a probe made it longer; one in the middle did not."""
MOST_OURS_S = 1.0
"""Who stood still for longer cannot judge others by the second."""


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
    ours_s: float = 0.0
    """Of `took_s`, what the prober itself came too late."""

    @property
    def answered(self) -> float:
        """When the answer was there."""
        return self.sent + self.took_s

    @property
    def theirs_s(self) -> float:
        """How long the answer took without what the prober came too late."""
        return self.took_s - self.ours_s


@dataclass
class Prober:
    """The running process, seen through its file."""

    path: Path
    _read: list[Probe] = field(default_factory=list)
    _read_to: int = 0

    def probes(self) -> list[Probe]:
        """Every answer so far, in the order they came."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]  # without one that is half written
        self._read += [Probe(**json.loads(line)) for line in whole.splitlines()]
        self._read_to += len(whole)
        return [*self._read]

    async def all_sent_before(self, moment: float) -> None:
        """Wait until each of these was answered or gave up: none of them hangs unseen."""

        async def all_there() -> bool:
            return all_are_there(self.probes(), moment)

        await until(all_there, PATIENCE_S + 10)

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


def all_are_there(probes: Collection[Probe], moment: float) -> bool:
    """Whether none is missing of those that were sent before that moment.

    That is certain only when one sent after it is there, and every one with a smaller number.
    """
    sent = {int(probe.key.rpartition("-")[2]): probe.sent for probe in probes}
    number = 0
    while (at := sent.get(number)) is not None and at <= moment:
        number += 1
    return at is not None


@asynccontextmanager
async def probing(
    url: str, directory: Path, per_second: float = 10, name: str = "probe"
) -> AsyncIterator[Prober]:
    """Probe meanwhile, under keys with that name; at the end every answer has come."""
    path = directory / f"{name}.jsonl"
    path.write_text("")
    command = [sys.executable, "-m", "tests.chaos.prober", url, str(per_second), str(path)]
    child = await Child.start(command, base_environment(), ROOT, directory / "prober.log")
    try:
        prober = Prober(path)
        await prober.first(lambda probe: probe.status == 202)
        yield prober
    finally:
        assert await child.stop(PATIENCE_S + 5) == 0, child.last_line()


class Heart:
    """Beats in this process' own loop: when a beat is late, everything here was."""

    def __init__(self, began: float) -> None:
        self._last = began
        self._halts: deque[tuple[float, float]] = deque(maxlen=round(2 * PATIENCE_S / BEAT_S))

    async def beat(self) -> None:
        """For as long as there are probes."""
        async for _ in pace(1 / BEAT_S, 1_000_000_000):
            self.note(time.monotonic())

    def note(self, now: float) -> None:
        """A beat came; what is longer than it should be since the last one was a halt."""
        self._halts.append((self._last + BEAT_S, now))
        self._last = now

    def stood_still_s(self, begin: float, end: float) -> float:
        """How much longer our own halts made what lasted from `begin` to `end`."""
        halts = [*self._halts, (self._last + BEAT_S, end)]
        felt = [
            min(to, end) - max(since, begin)
            for since, to in halts
            if since <= begin + NEAR_S or to >= end - NEAR_S
        ]
        return min(sum(one for one in felt if one > 0), MOST_OURS_S)


async def probe(session: aiohttp.ClientSession, heart: Heart, key: str) -> Probe:
    sent = time.monotonic()
    status, wait, job = 0, None, {}
    try:
        async with session.post(
            "/v1/search",
            json={"query": f"gauge {key}"},
            headers={"Idempotency-Key": key},
        ) as answer:
            job = await answer.json(content_type=None)
            status, wait = answer.status, answer.headers.get("Retry-After")
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass  # nothing came: status 0
    answered = time.monotonic()
    ours_s = round(heart.stood_still_s(sent, answered), 4)
    return Probe(key, sent, answered - sent, status, wait, job.get("id"), ours_s)


async def main(url: str, per_second: float, path: Path) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    heart = Heart(time.monotonic())
    beating = asyncio.create_task(heart.beat(), name="heart")
    with path.open("a", buffering=1) as file:
        async with (
            aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as probes,
        ):

            async def one(number: int) -> None:
                found = await probe(session, heart, f"{path.stem}-{number}")
                file.write(json.dumps(asdict(found)) + "\n")

            async for number in pace(per_second, 10_000_000):
                if ended.is_set():
                    break
                probes.create_task(one(number))
    await end(beating)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
