"""Hands on the broker of a scene, and what the processes say of it.

async with hands(here) as broker:
    await broker.purge()
    await broker.declare()
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from forebay.broker.management import TopologySettings, declare, open_management
from forebay.broker.topology import VHOST, forebay_topology, queue_name
from forebay.jobs import JobKind, JobState, Lane
from forebay.local.environment import kept_passwords
from forebay.local.rabbitmq import RabbitMQNode
from forebay.testing.polling import until
from tests.broker_world import RabbitWorld

from .own_jobs import crawl, jobs_of, llm, search
from .scene import Scene

KINDS = JobKind.SEARCH, JobKind.CRAWL, JobKind.LLM
"""Those that have a worker."""
ROUTES = [(kind, lane) for kind in KINDS for lane in Lane]
_pages = count()
_keys = count()


class Hands(RabbitWorld):
    """An administrator of the scene's own vhost."""

    def __init__(self, here: Scene, broker: RabbitMQNode, client: Any) -> None:
        super().__init__(broker, client)
        self.vhost = VHOST
        self._kept = here.stack.directory / "data"

    async def declare(self) -> None:
        """Make the topology what it was, as `forebay topology apply` does."""
        words = kept_passwords(self._kept / "passwords.json").items()
        passwords = {role: SecretStr(word) for role, word in words}
        await declare(self.management, forebay_topology(), passwords)

    async def wipe(self) -> None:
        """SIGKILL the node, lose its disk, and start it again, without any of our topology."""
        await self.node.kill()
        shutil.rmtree(self._kept / "rabbitmq" / "data")
        await self.node.start()

    async def save_queues(self) -> None:
        """Have the node write its register of quorum queues, as it does by itself in minutes."""
        await self.control("eval", "[dets:sync(Table) || Table <- dets:all()].")

    async def purge(self) -> int:
        """Empty every queue of jobs; how many messages were ready in them."""
        gone = 0
        for kind, lane in ROUTES:
            gone += await self.waiting(kind, lane)
            url = f"queues/{VHOST}/{queue_name(kind, lane)}/contents"
            (await self.management.delete(url)).raise_for_status()
        return gone

    async def has_queue(self, kind: JobKind, lane: Lane) -> bool:
        """Whether the queue is there."""
        found = await self.management.get(f"queues/{VHOST}/{queue_name(kind, lane)}")
        return found.status_code == 200

    async def alarmed(self) -> bool:
        """Whether an alarm is in force on the node."""
        found = await self.management.get("health/checks/local-alarms")
        return found.status_code == 503

    async def published_into(self, kind: JobKind, lane: Lane) -> int:
        """Messages that ever came into a queue since it was declared, by the node's own count."""
        found = (await self.management.get(f"queues/{VHOST}/{queue_name(kind, lane)}")).json()
        return int(found.get("message_stats", {}).get("publish", 0))


@asynccontextmanager
async def hands(here: Scene) -> AsyncIterator[Hands]:
    """An administrator of the scene's broker."""
    node = here.stack.servers.rabbitmq
    assert node is not None, "the scene has a broker of its own"
    settings = TopologySettings(rabbitmq_management_url=SecretStr(node.management_url))
    async with open_management(settings) as client:
        yield Hands(here, node, client)


async def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, as a process tells it now."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def ingress_metric(here: Scene, name: str, **labels: str) -> Awaitable[float]:
    """What the ingress counts."""
    return metric(here.stack.ingress_url, name, **labels)


def worker_metric(here: Scene, kind: JobKind, name: str, **labels: str) -> Awaitable[float]:
    """What the worker of a kind counts."""
    process = {JobKind.SEARCH: "search_worker", JobKind.CRAWL: "crawler_worker"}
    return metric(here.stack.probes[process.get(kind, "llm_worker")], name, **labels)


async def submit(
    here: Scene, kind: JobKind, *, lane: Lane = Lane.DEFAULT, latency_s: float = 0.0
) -> str:
    """Submit one job beside the load; its id. Its provider takes `latency_s`, if that is said."""
    wish: dict[str, object] = {"latency": latency_s} if latency_s else {}
    match kind:
        case JobKind.SEARCH:
            body = search(**wish)
        case JobKind.LLM:
            body = llm(**wish)
        case _:
            asked = f"?simulate=latency={latency_s}" if latency_s else ""
            body = crawl(here, f"/pages/{next(_pages) % 200 + 1}{asked}")
    key = f"beside-{next(_keys)}"
    return await here.callers.submit_to("/v1/jobs", {**body, "lane": lane.value}, key)


def answers(here: Scene) -> Counter[int]:
    """How often each status was answered to a submission so far; 0 is no answer."""
    return Counter(here.callers.ledger.statuses)


async def waiting_in_broker(here: Scene, ids: Collection[str]) -> set[str]:
    """Of these jobs, those that wait with a confirmed message."""
    return {
        job.id
        for job in (await jobs_of(here, ids)).values()
        if job.state is JobState.QUEUED and job.published_at is not None
    }


async def holds(condition: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Wait until it holds; how long that took, in seconds. Raises `TimeoutError`."""
    began = time.monotonic()
    await until(condition, within_s)
    return time.monotonic() - began
