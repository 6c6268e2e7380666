"""S2: names that change their mind between look-ups, against a real listener on what is denied."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest

from forebay.addresses import AddressGuard
from forebay.errors import AddressForbidden
from forebay.http import Resolver, TargetGate, build_client

TRIES = 200
CALLS = 3
AT_ONCE = 20
PUBLIC = ("93.184.215.14", "2606:4700:4700::1111", "1.1.1.1")
DENIED = (
    *("127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.1", "10.0.0.1"),
    *("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "2002:7f00:1::", "::127.0.0.1"),
)


class Rebinding:
    """An attacker's name server, asked through the product's own resolver and its threads.

    Each look-up of a name is answered anew: something public, something denied, or both in either
    order, as a name server with a time to live of 0 may.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.answers: Counter[str] = Counter()

    def look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        del host
        what = self._random.choice(("public", "denied", "public first", "denied first"))
        self.answers[what] += 1
        public, denied = self._random.choice(PUBLIC), self._random.choice(DENIED)
        found = {
            "public": [public],
            "denied": [denied],
            "public first": [public, denied],
            "denied first": [denied, public],
        }[what]
        return [_info(address, port) for address in found]


def _info(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


class Listener:
    """Takes connections on every address of this machine, and counts them."""

    def __init__(self) -> None:
        self.taken = 0

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._take, "", 0, family=socket.AF_INET6)

    async def _take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        writer.close()


@pytest.mark.timeout(120)
async def test_a_name_that_changes_its_mind_never_reaches_what_is_denied(
    connects: list[Any], figures: list[str]
) -> None:
    listener, names = Listener(), Rebinding(seed=7)
    server = await listener.serve()
    port = server.sockets[0].getsockname()[1]
    # The port is one that may be called, so that nothing but the address stands in the way.
    guard = AddressGuard(ports=frozenset({port}))
    said: Counter[str] = Counter()
    turns = asyncio.Semaphore(AT_ONCE)
    resolver = Resolver(look_up=names.look_up)

    async def attempt(client: httpx.AsyncClient, n: int) -> None:
        async with turns:
            for _ in range(CALLS):
                try:
                    await client.get(f"http://name-{n}.attacker.example.com:{port}/")
                except AddressForbidden:
                    said["refused"] += 1
                except httpx.TransportError:
                    said["not reached"] += 1

    async with (
        server,
        build_client(concurrency=AT_ONCE, timeout_s=0.2, guard=guard, resolver=resolver) as client,
    ):
        await asyncio.gather(*(attempt(client, n) for n in range(TRIES)))
    assert names.answers.total() == said.total() == TRIES * CALLS
    # A few may be given up for time before they are judged: this machine may be busy.
    assert said["refused"] > 0.9 * (said.total() - names.answers["public"])
    assert {address[0] for address in connects} <= {*PUBLIC}
    assert listener.taken == 0
    figures.append(
        f"S2: {TRIES} names that change their mind, {names.answers.total()} look-ups "
        f"{dict(names.answers)}: {said['refused']} refused, 0 connects to what is denied"
    )


async def test_the_listener_would_have_heard_of_it() -> None:
    """Without the guard the same names lead to it: the test above can fail."""
    listener, names = Listener(), Rebinding(seed=7)
    server = await listener.serve()
    port = server.sockets[0].getsockname()[1]
    resolver = Resolver(look_up=names.look_up)
    async with server, build_client(concurrency=1, timeout_s=0.2, resolver=resolver) as client:
        for n in range(20):
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://name-{n}.attacker.example.com:{port}/")
    assert listener.taken > 0


async def test_a_target_for_somebody_else_is_judged_by_every_answer() -> None:
    names = Rebinding(seed=11)
    resolver = Resolver(look_up=names.look_up)
    gate, refused = TargetGate(AddressGuard(), resolver), 0
    for n in range(TRIES):
        try:
            await gate.check(f"https://name-{n}.attacker.example.com/")
        except AddressForbidden:
            refused += 1
    assert refused == TRIES - names.answers["public"] > 0
    await resolver.close()
