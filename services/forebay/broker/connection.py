"""A connection to RabbitMQ: opened, watched until it is lost, and then replaced by a fresh one.

Theory of operation. A `Link` is one connection and lives once: when it is lost, its owner opens
another and sets up on it what it needs, in the open. aio-pika's own restoring connection is not
used (docs/decisions/0004). Three habits of the library are dealt with here and nowhere else:

- It ends what waits on a dead channel with `CancelledError`, although nobody canceled the waiting
  task. `translated` tells the two apart.
- `Connection.closed()` waits for a close of our own, not for the loss of the connection; the
  close callbacks hear of both.
- It tells nobody that the broker blocks a connection; one can only ask whether it is blocked now.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from yarl import URL

from forebay import __version__
from forebay.errors import BrokerUnavailable, ConfigurationError, TopologyMissing
from forebay.settings import BrokerSettings
from forebay.tasks import canceled, end

CONNECT_WITHIN_S = 10.0
CALL_WITHIN_S = 5.0
"""Upper bound of one exchange with the broker that is not a publish."""
CLOSE_WITHIN_S = 3.0


def connection_name(process: str) -> str:
    """What the management UI shows: `search_worker@host (version)`."""
    return f"{process}@{socket.gethostname()} ({__version__})"


def redacted(url: str) -> str:
    """The URL without its password and query, for errors and logs."""
    try:
        parsed = URL(url)
        return str(parsed.with_password(None).with_query(None))
    except ValueError:
        return "an unreadable URL"


class Backoff:
    """Waits between attempts to connect, in seconds: exponential, capped, full jitter."""

    def __init__(
        self, base_s: float, cap_s: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._chance = chance
        self._failures = 0

    def next(self) -> float:
        """How long to wait now."""
        bound = min(self._cap_s, self._base_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return bound * self._chance()

    def reset(self) -> None:
        """It worked: begin again at the base."""
        self._failures = 0


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the library raises into `TopologyMissing` or `BrokerUnavailable`.

    A `CancelledError` passes only when this task was really canceled.
    """
    try:
        yield
    except ChannelNotFoundEntity as error:
        raise TopologyMissing(f"{what}: {_text(error)}; run `forebay topology apply`") from error
    except TimeoutError as error:
        raise BrokerUnavailable(f"{what}: no answer in time") from error
    except asyncio.CancelledError as error:
        if canceled():
            raise
        raise BrokerUnavailable(f"{what}: the channel was lost") from error
    except CONNECTION_EXCEPTIONS as error:
        raise BrokerUnavailable(f"{what}: {_text(error)}") from error


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


class Link:
    """One connection, until it is lost or closed."""

    def __init__(self, connection: AbstractConnection, where: str) -> None:
        self.lost = asyncio.Event()
        self._connection = connection
        self._where = where
        self._why = "closed"
        connection.close_callbacks.add(self._on_close)

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self._why = _text(error) if error is not None else "closed"
        self.lost.set()

    @property
    def loss(self) -> BrokerUnavailable:
        """The loss as an error."""
        return BrokerUnavailable(f"the connection to {self._where} was lost: {self._why}")

    async def channel(self, *, confirms: bool) -> AbstractChannel:
        """A new channel; with `confirms`, a returned message is an error as well as a nack."""
        with translated(f"no channel on {self._where}"):
            async with asyncio.timeout(CALL_WITHIN_S):
                channel = self._connection.channel(
                    publisher_confirms=confirms, on_return_raises=confirms
                )
                await channel.initialize()
                return channel

    async def blocked(self) -> bool:
        """Whether the broker blocks this connection now (memory or disk alarm)."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        return False

    async def unblocked(self) -> None:
        """Wait until the broker does not block this connection."""
        if self._connection.transport is not None:
            await self._connection.transport.ready()

    async def close(self) -> None:
        """Close it, whatever state it is in."""
        with suppress(BrokerUnavailable), translated("closing"):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._connection.close()


class _ClosedByUs(aio_pika.Connection):
    """Closed by its `Link`; one that never connected has nothing to close.

    The library closes a forgotten connection from `__del__`, which the garbage collector may run in
    a thread that has no loop: 16 of 16 failed attempts to connect left such a warning to happen.
    """

    def __del__(self) -> None:
        pass


async def open_link(settings: BrokerSettings, name: str) -> Link:
    """Connect; raises `BrokerUnavailable` with the redacted URL.

    Raises `ConfigurationError` when the library cannot read the URL.
    """
    url = settings.amqp_url.get_secret_value()
    where = redacted(url)
    try:
        with translated(f"cannot connect to {where}"):
            async with asyncio.timeout(CONNECT_WITHIN_S):
                connection = await aio_pika.connect(
                    url,
                    heartbeat=settings.amqp_heartbeat_s,
                    client_properties={"connection_name": name},
                    connection_class=_ClosedByUs,
                )
    except ValueError:  # its message quotes the URL, and the URL holds the password
        raise ConfigurationError("FOREBAY_AMQP_URL makes no sense to the client library") from None
    return Link(connection, where)


async def while_alive(link: Link, *duties: Coroutine[Any, Any, None]) -> None:
    """Run the duties until all ended, one raised, or the link is lost (`BrokerUnavailable`)."""
    tasks = {asyncio.create_task(duty) for duty in duties}
    lost = asyncio.create_task(link.lost.wait(), name="link lost")
    try:
        running = set(tasks)
        while running:
            done, _ = await asyncio.wait({*running, lost}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & running:
                task.result()
            running -= done
            if lost in done:
                raise link.loss
    finally:
        await end(lost, *tasks)
