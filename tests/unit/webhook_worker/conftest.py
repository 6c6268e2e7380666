"""A receiver of webhooks on a real socket, and the real handler that sends to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from forebay.endpoints import Endpoint, SigningSecret, new_secret
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.memory import MemoryJobStore
from forebay.webhooks.delivery import DeliveryRequest, endpoint_tag, event_tag
from webhook_worker.handler import WebhookHandler, open_handler
from webhook_worker.settings import WebhookSettings

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
TENANT = "t"
BODY = '{"type":"job.succeeded","data":{"id":"job_1","metadata":{"name":"Zoë"}}}'


@dataclass
class Sink:
    """Keeps what it hears; answers 204 unless told otherwise."""

    url: str = ""
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Answer | None = None

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.heard.append(
            ({name.lower(): value for name, value in request.headers.items()}, await request.read())
        )
        return await self.answer(request) if self.answer else web.Response(status=204)


@asynccontextmanager
async def listening(sink: Sink) -> AsyncIterator[Sink]:
    app = web.Application()
    app.router.add_post("/{path:.*}", sink.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    sink.url = f"http://{host}:{port}/hook"
    try:
        yield sink
    finally:
        await runner.cleanup()


@dataclass
class World:
    sink: Sink
    handler: WebhookHandler
    endpoints: MemoryEndpointStore
    jobs: MemoryJobStore

    async def endpoint(self, **changes: Any) -> Endpoint:
        fields: dict[str, Any] = {
            "id": "we_1",
            "tenant": TENANT,
            "url": self.sink.url,
            "created_at": datetime.now(UTC),
            "secrets": (SigningSecret(new_secret()),),
        }
        return await self.endpoints.add(Endpoint(**{**fields, **changes}))

    def delivery(self, endpoint_id: str = "we_1", **changes: Any) -> Job:
        job = Job(
            id="msg_1",
            tenant=TENANT,
            kind=JobKind.WEBHOOK,
            lane=Lane.DEFAULT,
            state=JobState.QUEUED,
            input=DeliveryRequest(endpoint_id=endpoint_id, body=BODY).model_dump_json(),
            created_at=datetime.now(UTC),
            max_attempts=10,
            tags=(event_tag("job.succeeded"), endpoint_tag(endpoint_id)),
        )
        return job.evolve(**changes)

    async def send(self, job: Job | None = None, *, url: str | None = None) -> Any:
        job = job or self.delivery()
        request = DeliveryRequest.model_validate_json(job.input)
        async with asyncio.timeout(30):
            return await self.handler.handle(job, request.model_copy(update={"url": url}))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    endpoints, jobs = MemoryEndpointStore(), MemoryJobStore(lambda: datetime.now(UTC))
    async with listening(Sink()) as sink:
        port = int(sink.url.split(":")[2].split("/")[0])
        settings = WebhookSettings(per_receiver_concurrency=2)
        allow = frozenset({("127.0.0.1", port)})
        async with open_handler(settings, allow, endpoints, jobs) as handler:
            yield World(sink, handler, endpoints, jobs)
