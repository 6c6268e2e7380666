"""A real RabbitMQ for tests of the broker room: one vhost of it, and the faults to plant."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Protocol

import aio_pika
import httpx
import pytest
import structlog
from pydantic import SecretStr

from forebay.broker import Delivery, JobMessage
from forebay.broker.consumer import RabbitConsumer
from forebay.broker.envelope import Envelope
from forebay.broker.management import TopologySettings, declare, open_management
from forebay.broker.publisher import RabbitPublisher
from forebay.broker.sender import SenderTuning
from forebay.broker.settling import opened
from forebay.broker.topology import dead_queue_name, forebay_topology, queue_name, routing_key
from forebay.broker.watchdog import WatchTiming
from forebay.jobs import JobKind, Lane
from forebay.local.rabbitmq import Control, RabbitMQNode
from forebay.settings import BrokerSettings
from forebay.telemetry.logging import Logger
from forebay.telemetry.metrics import Metrics

PASSWORDS = {
    role: SecretStr(f"{role}-pw") for role in ("ingress", "reconciler", "worker", "monitor")
}
FAST = WatchTiming(
    look_every_s=0.2, deaf_after_s=0.4, backoff_base_s=0.02, backoff_cap_s=0.2,
    dead_letter_pause_s=0.01,
)  # fmt: skip
FAST_SENDER = SenderTuning(backoff_base_s=0.02, backoff_cap_s=0.2, blocked_check_s=0.02)


class Log:
    """A logger that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.logger: Logger = structlog.wrap_logger(
            None,
            processors=[self._keep],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )

    def _keep(self, _: object, __: str, line: Any) -> Any:
        self.lines.append(dict(line))
        raise structlog.DropEvent

    def events(self) -> list[str]:
        return [str(line["event"]) for line in self.lines]

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))


class Received:
    """What a consumer received, one by one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()

    def __call__(self, delivery: Delivery) -> None:
        self._queue.put_nowait(delivery)

    async def next(self, within_s: float = 20) -> Delivery:
        async with asyncio.timeout(within_s):
            return await self._queue.get()

    async def take(self, n: int) -> list[Delivery]:
        return [await self.next() for _ in range(n)]

    @property
    def count(self) -> int:
        return self._queue.qsize()


async def eventually(holds: Callable[[], Awaitable[bool] | bool], within_s: float = 20) -> None:
    """Wait until it holds; each look gives the loop a turn."""
    async with asyncio.timeout(within_s):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0)


def message(
    n: int = 1, kind: JobKind = JobKind.SEARCH, lane: Lane = Lane.DEFAULT, **more: Any
) -> JobMessage:
    return JobMessage(job_id=f"job_{n:032x}", generation=1, kind=kind, lane=lane, **more)


def of_jobs(queues: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of what the management API lists: the queues of jobs, without dead letters and ears."""
    names = {queue_name(kind, lane) for kind in JobKind for lane in Lane}
    return [queue for queue in queues if queue["name"] in names]


class Broker(Protocol):
    """The shared servers or a node of the test's own."""

    @property
    def amqp_url(self) -> str: ...

    @property
    def management_url(self) -> str: ...

    @property
    def control(self) -> Control | None: ...


class RabbitWorld:
    """One vhost with the topology, reached as an administrator, and ways to disturb it."""

    name = "rabbitmq"

    def __init__(self, broker: Broker, client: httpx.AsyncClient) -> None:
        self.vhost = f"test-{uuid.uuid4().hex[:8]}"
        self.management = client
        self.log = Log()
        self.metrics = Metrics()
        self._broker = broker
        self._blocked = False
        self._exits = AsyncExitStack()
        self._consumers: list[RabbitConsumer] = []

    @property
    def node(self) -> RabbitMQNode:
        """The node, where the test has one of its own to stop, kill and freeze."""
        assert isinstance(self._broker, RabbitMQNode), "the shared broker is not to be disturbed"
        return self._broker

    def settings(self, user: str | None = None, **more: Any) -> BrokerSettings:
        root = self._broker.amqp_url.removesuffix("/")
        if user is not None:
            host = root.rpartition("@")[2]
            root = f"amqp://forebay-{user}:{user}-pw@{host}"
        return BrokerSettings(amqp_url=SecretStr(f"{root}/{self.vhost}"), **more)

    async def publisher(self, user: str | None = None, **more: Any) -> RabbitPublisher:
        publisher = RabbitPublisher(
            self.settings(user, **more), "test", self.metrics, self.log.logger, FAST_SENDER
        )
        await self._exits.enter_async_context(publisher)
        async with asyncio.timeout(20):
            await publisher.wait_connected()
        return publisher

    async def consumer(
        self, kind: JobKind = JobKind.SEARCH, prefetch: int = 20, user: str | None = None
    ) -> RabbitConsumer:
        consumer = RabbitConsumer(
            self.settings(user), kind, prefetch, "search_worker", self.metrics, self.log.logger
        )
        consumer.timing = FAST
        self._consumers.append(consumer)
        self._exits.push_async_callback(consumer.close)
        return consumer

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Any]:
        connection = await aio_pika.connect(self.settings().amqp_url.get_secret_value())
        try:
            yield await connection.channel(on_return_raises=True)
        finally:
            await connection.close()

    async def put(self, kind: JobKind, lane: Lane, envelope: Envelope) -> None:
        """A foreign message, put into the queue past the exchange."""
        async with self.admin() as channel:
            exchange = await channel.declare_exchange(f"foreign-{uuid.uuid4().hex}", "fanout")
            queue = await channel.get_queue(queue_name(kind, lane), ensure=False)
            await queue.bind(exchange)
            body = aio_pika.Message(
                envelope.body, headers=dict(envelope.headers), type=envelope.type, delivery_mode=2
            )
            await exchange.publish(body, routing_key=envelope.routing_key)
            await exchange.delete()

    async def waiting(self, kind: JobKind, lane: Lane) -> int:
        async with self.admin() as channel:
            queue = await channel.declare_queue(queue_name(kind, lane), passive=True)
            return int(queue.declaration_result.message_count)

    async def most_deliveries(self, kind: JobKind, lane: Lane) -> int:
        """The highest delivery count of the messages at the head of a queue."""
        counts = [0]
        async with self.admin() as channel:
            queue = await channel.get_queue(queue_name(kind, lane), ensure=False)
            for _ in range(100):
                incoming = await queue.get(fail=False)
                if incoming is None:
                    break
                counts.append(int(str(incoming.headers.get("x-delivery-count", 0))))
        return max(counts)

    async def dead(self, kind: JobKind) -> list[Envelope]:
        found = []
        async with self.admin() as channel:
            queue = await channel.get_queue(dead_queue_name(kind), ensure=False)
            while (incoming := await queue.get(fail=False)) is not None:
                found.append(opened(incoming))
            # Looked at, not taken: closing gives them back.
        return found

    async def unbind(self, kind: JobKind, lane: Lane) -> None:
        await self._bind("DELETE", "forebay.jobs", queue_name(kind, lane), kind, lane)

    async def refuse_dead_letters(self, *, refuse: bool = True) -> None:
        for lane in Lane:
            await self._bind(
                "DELETE" if refuse else "POST",
                "forebay.dead", dead_queue_name(JobKind.SEARCH), JobKind.SEARCH, lane,
            )  # fmt: skip

    async def _bind(self, how: str, exchange: str, queue: str, kind: JobKind, lane: Lane) -> None:
        path = f"bindings/{self.vhost}/e/{exchange}/q/{queue}"
        key = routing_key(kind, lane)
        if how == "DELETE":
            (await self.management.delete(f"{path}/{key}")).raise_for_status()
        else:
            (await self.management.post(path, json={"routing_key": key})).raise_for_status()

    async def limit(self, **definition: Any) -> None:
        """Stricter limits for the queues of jobs, over the topology's own policy."""
        base = forebay_topology().policies[0]
        limits = {key.replace("_", "-"): value for key, value in definition.items()}
        body = {
            "pattern": base.pattern,
            "apply-to": "queues",
            "priority": 99,
            "definition": {**base.definition, **limits},
        }
        url = f"policies/{self.vhost}/stricter"
        (await self.management.put(url, json=body)).raise_for_status()
        await eventually(lambda: self._in_force("stricter"))

    async def _in_force(self, policy: str) -> bool:
        # Without statistics, which are 5 s old and older.
        plain = {"disable_stats": "true", "enable_queue_totals": "true"}
        queues = (await self.management.get(f"queues/{self.vhost}", params=plain)).json()
        return all(one.get("policy") == policy for one in of_jobs(queues))

    async def delete_queue(self, kind: JobKind, lane: Lane) -> None:
        await self.management.delete(f"queues/{self.vhost}/{queue_name(kind, lane)}")

    async def declare(self) -> None:
        await declare(self.management, forebay_topology(self.vhost), PASSWORDS)

    async def kill(self) -> None:
        """SIGKILL the node, with the queues it knows on disk.

        RabbitMQ 3.10 writes the register of its quorum queues minutes later: killed soon after a
        declaration it comes back with a queue that answers nobody. Seen here, and not what these
        tests are about.
        """
        await self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")
        await self.node.kill()

    async def cut(self) -> None:
        """The broker closes every connection."""
        await self.control("close_all_connections", "--vhost", self.vhost, "cut by a test")

    async def block(self) -> None:
        """Raise the memory alarm."""
        await self.control("set_vm_memory_high_watermark", "0.00001")
        self._blocked = True

    async def unblock(self) -> None:
        await self.control("set_vm_memory_high_watermark", "0.6")
        self._blocked = False

    async def control(self, *command: str) -> str:
        """Run rabbitmqctl against the node."""
        if self._broker.control is None:
            pytest.skip("needs rabbitmqctl, which a broker given by its URL does not have")
        return await self._broker.control(*command)

    async def reset(self) -> None:
        """Leave no one connected and a topology as new."""
        await self._exits.aclose()
        if self._blocked:
            await self.unblock()
        await self.management.delete(f"policies/{self.vhost}/stricter")
        await self.declare()
        for queue in forebay_topology().queues:
            await self.management.delete(f"queues/{self.vhost}/{queue.name}/contents")
        self.log.lines.clear()
        self.metrics = Metrics()

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def open_world(broker: Broker) -> AsyncIterator[RabbitWorld]:
    """A vhost with the topology, gone at the end."""
    settings = TopologySettings(rabbitmq_management_url=SecretStr(broker.management_url))
    async with open_management(settings) as client:
        world = RabbitWorld(broker, client)
        await world.declare()
        yield world
        await client.delete(f"vhosts/{world.vhost}")


@asynccontextmanager
async def consuming(consumer: Any) -> AsyncIterator[Received]:
    """Run a consumer, wait until it consumes; stopped and closed afterwards."""
    received = Received()
    running = asyncio.create_task(consumer.run(received))
    try:
        await eventually(lambda: consumer.lacking is None or running.done())
        yield received
    finally:
        await consumer.stop()
        await consumer.close()
        with suppress(asyncio.CancelledError):
            await running
