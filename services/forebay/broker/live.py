"""Words between processes on RabbitMQ: what workers tell, and what they are asked to tell again.

    forebay.live    fanout to every ingress: jobs that moved, and what their providers write
    forebay.asks    fanout to every worker: whose output somebody follows

Theory of operation. Nothing here is promised: messages are transient and not confirmed, queues are
exclusive to their process and bounded, the oldest goes first. Who hears nothing looks at the store.
So nothing waits for any of it, and none of it can hold up a job. What is said within 20 ms goes out
as one message: its cost is that of a message each 20 ms, not of a message for each word.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from forebay.broker.connection import (
    Backoff,
    Link,
    connection_name,
    open_link,
    translated,
    while_alive,
)
from forebay.broker.topology import ASKS_EXCHANGE, HEARD, LIVE_EXCHANGE
from forebay.errors import BrokerUnavailable
from forebay.progress import Ask, Hear, Moved, Output, Word
from forebay.settings import BrokerSettings
from forebay.tasks import end
from forebay.telemetry.events import LogEvent
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics

EVERY_S = 0.02
MOST_UNSAID = 10_000
"""Words kept while the broker is away or slow; the oldest goes first."""
MOST_IN_ONE = 500
"""Words in one message."""
QUEUE: dict[str, str | int] = {
    "x-max-length": 10_000,
    "x-overflow": "drop-head",
    "x-message-ttl": 10_000,
}
"""An exclusive queue goes with its process, so its limits need no policy."""
PREFETCH = 100
BACKOFF_S = (0.2, 5.0)
USE = "live"


class RabbitLive:
    """The `Voice` on RabbitMQ, and the ear: `async with live.heard_by(hear)`, which never waits.

    Args:
        hears: the exchange whose words it hears.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        name: str,
        hears: str,
        metrics: Metrics,
        logger: Logger,
    ) -> None:
        self._settings = settings
        self._name = connection_name(f"{name} {USE}")
        self._hears = hears
        self._connected = metrics.broker_connected.labels(USE)
        self._logger = logger.bind(use=USE)
        self._unsaid: deque[Word] = deque(maxlen=MOST_UNSAID)
        self._anything = asyncio.Event()
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def heard_by(self, hear: Hear) -> AsyncIterator[None]:
        """Speak and hear inside; `hear` takes what others said."""
        keeper = asyncio.create_task(self._keep(hear), name=f"{USE} connection")
        try:
            yield
        finally:
            await end(keeper)

    def say(self, word: Word) -> None:
        """See `Voice.say`."""
        self._unsaid.append(word)
        self._anything.set()

    async def wait_listening(self) -> None:
        """Wait until it hears what is said; for those who have nothing to do before."""
        await self._listening.wait()

    async def _keep(self, hear: Hear) -> None:
        backoff = Backoff(*BACKOFF_S)
        while True:
            try:
                await self._keep_one(hear, backoff)
            except BrokerUnavailable as error:
                self._logger.warning(LogEvent.BROKER_LOST, error=str(error))
            except Exception:
                self._logger.exception(LogEvent.LOOP_FAILED, loop=f"{USE} connection")
            await asyncio.sleep(backoff.next())

    async def _keep_one(self, hear: Hear, backoff: Backoff) -> None:
        link = await open_link(self._settings, self._name)
        try:
            with translated("the words between processes"):
                await self._listen(await link.channel(confirms=False), hear)
                speaking = await link.channel(confirms=False)
            self._connected.set(1)
            self._logger.info(LogEvent.BROKER_CONNECTED, connection=self._name)
            self._listening.set()
            backoff.reset()
            await while_alive(link, self._speak(link, speaking))
        finally:
            self._listening.clear()
            self._connected.set(0)
            await link.close()

    async def _listen(self, channel: AbstractChannel, hear: Hear) -> None:
        await channel.set_qos(PREFETCH)
        name = f"{HEARD}.{uuid.uuid4().hex}"
        queue = await channel.declare_queue(name, exclusive=True, arguments={**QUEUE})
        await queue.bind(self._hears)

        async def on_message(message: AbstractIncomingMessage) -> None:
            hear([*read(message.body)])

        await queue.consume(on_message, no_ack=True)

    async def _speak(self, link: Link, channel: AbstractChannel) -> None:
        with translated("the words between processes"):
            live = await channel.get_exchange(LIVE_EXCHANGE, ensure=False)
            asks = await channel.get_exchange(ASKS_EXCHANGE, ensure=False)
            while not link.lost.is_set():
                await self._anything.wait()
                await asyncio.sleep(EVERY_S)
                words = self._next()
                for exchange, some in (live, _plain(words)), (asks, _asks(words)):
                    if some:
                        await exchange.publish(_message(some), "", mandatory=False)

    def _next(self) -> list[Word]:
        words: list[Word] = []
        with suppress(IndexError):
            while len(words) < MOST_IN_ONE:
                words.append(self._unsaid.popleft())
        if not self._unsaid:
            self._anything.clear()
        return words


def _plain(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if not isinstance(word, Ask)]


def _asks(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if isinstance(word, Ask)]


def _message(words: Sequence[Word]) -> Message:
    return Message(
        body=written(words),
        content_type="application/json",
        delivery_mode=DeliveryMode.NOT_PERSISTENT,
        type="forebay.words.v1",
    )


def written(words: Iterable[Word]) -> bytes:
    """The body of a message."""
    return json.dumps([*map(_written, words)], separators=(",", ":")).encode()


def _written(word: Word) -> list[Any]:
    match word:
        case Moved(job_id, done):
            return ["moved", job_id, done]
        case Output(job_id, round_, offset, text):
            return ["output", job_id, round_, offset, text]
        case Ask(job_id, offset):
            return ["ask", job_id, offset]


def read(body: bytes) -> Iterator[Word]:
    """What a message says; a word that makes no sense here is passed over."""
    try:
        words = json.loads(body)
    except (ValueError, RecursionError):
        return
    for word in words if isinstance(words, list) else ():
        match word:
            case ["moved", str(job_id), bool(done)]:
                yield Moved(job_id, done)
            case ["output", str(job_id), int(round_), int(offset), str(text)]:
                yield Output(job_id, round_, offset, text)
            case ["ask", str(job_id), int(offset)]:
                yield Ask(job_id, offset)
            case _:
                pass
