"""A thousand callers who send a byte a second, beside others who do not (S4)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest

from forebay.tasks import end
from forebay.testing.polling import until
from tests.ingress_process import NOBODY, IngressProcess, serving

SOCKETS = 1000
ROUNDS = 6
ROUND_S = 1.0
CALLERS = 4
AT_MOST = 2.0
HEAD_S = 6
"""A round with its thousand sockets is over before: while it is measured, none has been cut off."""

HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
BODY = (
    b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 4000\r\n\r\n"
)


class SlowCallers:
    """Sockets that send the beginning of a request, and then a byte a second: half of them of its
    head, half of its body."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []
        self.bytes_sent = 0

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for n in range(SOCKETS):
            one = socket.socket()
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", self._port))
            await loop.sock_sendall(one, (HEAD, BODY)[n % 2])
            self._sockets.append(one)

    async def drip(self) -> None:
        """A fiftieth of them each fiftieth of a second."""
        while True:
            for part in range(50):
                for one in self._sockets[part::50]:
                    with contextlib.suppress(OSError):
                        self.bytes_sent += one.send(b" ")
                await asyncio.sleep(1 / 50)

    def still_open(self) -> int:
        """How many the ingress has neither answered nor closed."""
        return sum(map(_is_held, self._sockets))

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def _is_held(one: socket.socket) -> bool:
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@asynccontextmanager
async def slow_callers(port: int) -> AsyncIterator[SlowCallers]:
    slow = SlowCallers(port)
    dripping = asyncio.create_task(slow.drip())
    try:
        await slow.connect()
        yield slow
    finally:
        dripping.cancel()
        slow.close()


async def p99_s(session: aiohttp.ClientSession, url: str) -> float:
    """Of submissions by a few callers, each of whom goes on when it is answered."""
    took: list[float] = []
    ends = time.monotonic() + ROUND_S

    async def call() -> None:
        while (began := time.monotonic()) < ends:
            async with session.post(f"{url}/v1/search", json={"query": "dam"}) as answer:
                await answer.read()
                assert answer.status == 202
            took.append(time.monotonic() - began)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return statistics.quantiles(took, n=100)[98]


@pytest.fixture
async def patient_ingress(
    mongodb_url: str, database: str, session: aiohttp.ClientSession
) -> AsyncIterator[IngressProcess]:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    settings |= {"INGRESS_HEAD_TIMEOUT_S": str(HEAD_S), "INGRESS_BODY_TIMEOUT_S": str(HEAD_S)}
    async with serving(session, **settings) as running:
        # Nobody else reads its log meanwhile: a full pipe would stop it.
        assert running.process.stderr is not None
        reading = asyncio.create_task(running.process.stderr.read())
        yield running
        await end(reading)


@pytest.mark.timeout(180)
async def test_a_thousand_sockets_that_send_a_byte_a_second_cost_others_little(
    session: aiohttp.ClientSession, patient_ingress: IngressProcess, figures: list[str]
) -> None:
    """Turn by turn without and with them, so that a busy machine is as busy for both."""
    ingress, without, beside = patient_ingress, [], []
    await p99_s(session, ingress.url)  # warm
    for turn in range(ROUNDS):
        without.append(await p99_s(session, ingress.url))
        async with slow_callers(ingress.port) as slow:
            sent = slow.bytes_sent
            beside.append(await p99_s(session, ingress.url))
            assert slow.bytes_sent - sent > SOCKETS * ROUND_S / 2
            assert slow.still_open() == SOCKETS, "they were not slow callers, they were gone"
            if turn == ROUNDS - 1:
                await until(lambda: _none(slow))
    usual_s, beside_s = _quiet(without), _quiet(beside)
    ratio = beside_s / usual_s
    figures.append(
        f"S4: p99 of submissions {usual_s * 1000:.1f} ms, beside {SOCKETS} sockets of a byte a "
        f"second {beside_s * 1000:.1f} ms: {ratio:.2f} times; all of them cut off in time"
    )
    assert ratio <= AT_MOST


def _quiet(rounds: Sequence[float]) -> float:
    """The lower quartile: what else this machine does only ever adds to a round."""
    return statistics.quantiles(rounds, n=4)[0]


async def _none(slow: SlowCallers) -> bool:
    return slow.still_open() == 0
