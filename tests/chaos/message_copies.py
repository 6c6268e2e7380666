"""Messages that come more than once, from an earlier generation, or from nobody we know."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from forebay.broker import DeadReason, JobMessage
from forebay.broker.envelope import Envelope, seal
from forebay.broker.topology import JOBS_EXCHANGE, queue_name, routing_key
from forebay.jobs import JobKind, Lane

from .broker_hands import KINDS, ROUTES, Hands
from .own_jobs import jobs_of
from .scene import Scene

MOST_COPIES = 4
Seen = asyncio.Queue[AbstractIncomingMessage | None]


@dataclass
class Copies:
    """How many were made."""

    made: int = 0


@asynccontextmanager
async def copying(broker: Hands, chance: random.Random) -> AsyncIterator[Copies]:
    """Put 0 to 4 copies of every message that is published meanwhile into the same queue."""
    copies, seen = Copies(), Seen()
    async with broker.admin() as channel:
        doors = await _doors(channel)
        mine = await channel.declare_queue(exclusive=True)
        for route in ROUTES:
            await mine.bind(JOBS_EXCHANGE, routing_key(*route))

        async def copy_all() -> None:
            while (incoming := await seen.get()) is not None:
                key = str(incoming.routing_key)
                for _ in range(chance.randint(0, MOST_COPIES)):
                    await doors[key].publish(_again(incoming), routing_key=key)
                    copies.made += 1

        tag = await mine.consume(seen.put, no_ack=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(copy_all())
            yield copies
            await mine.cancel(tag)
            await seen.put(None)
        for door in doors.values():
            await door.delete()


async def _doors(channel: AbstractChannel) -> dict[str, AbstractExchange]:
    """For each queue of jobs an exchange to it alone, so that a copy keeps its routing key."""
    doors = {}
    for route in ROUTES:
        door = await channel.declare_exchange(f"copies-{uuid.uuid4().hex}", "fanout")
        await (await channel.get_queue(queue_name(*route), ensure=False)).bind(door)
        doors[routing_key(*route)] = door
    return doors


def _again(incoming: AbstractIncomingMessage) -> aio_pika.Message:
    return aio_pika.Message(
        incoming.body,
        headers=incoming.headers,
        type=incoming.type,
        content_type=incoming.content_type,
        correlation_id=incoming.correlation_id,
        delivery_mode=2,
    )


async def replayed(here: Scene, broker: Hands, ids: Collection[str]) -> int:
    """Run finished jobs again by hand, and send each the message of its former generation."""
    jobs = (await jobs_of(here, ids)).values()
    for job in jobs:
        again = await here.store.retry(job.tenant, job.id)
        assert again is not None
        assert again.generation == job.generation + 1
        former = JobMessage(job.id, job.generation, job.kind, job.lane)
        await broker.put(job.kind, job.lane, seal(former, uuid.uuid4().hex))
    return len(jobs)


async def foreign(broker: Hands, times: int) -> Counter[tuple[JobKind, str]]:
    """Put what no worker can use into the queues of every kind; what must become of it."""
    expected: Counter[tuple[JobKind, str]] = Counter()
    for kind in KINDS:
        for n in range(times):
            for envelope, reason in _unusable(kind, n):
                await broker.put(kind, Lane.DEFAULT, envelope)
                expected[kind, reason.value] += 1
    return expected


def _unusable(kind: JobKind, n: int) -> Iterator[tuple[Envelope, DeadReason]]:
    unknown = seal(JobMessage(f"job_{n:032x}", 1, kind, Lane.DEFAULT), uuid.uuid4().hex)
    yield unknown, DeadReason.UNKNOWN_JOB
    yield replace(unknown, body=b"\xff\x00{"), DeadReason.MALFORMED
    yield replace(unknown, type="forebay.job.v2"), DeadReason.MALFORMED
    yield replace(unknown, type=None), DeadReason.MALFORMED
    yield replace(unknown, routing_key="nobody.knows"), DeadReason.MALFORMED
    yield replace(unknown, body=b'{"job_id": 7}'), DeadReason.MALFORMED
