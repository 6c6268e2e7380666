from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from aiohttp import web

from forebay.client import Client
from tests.ingress_by_hand import World, ingress
from tests.local_api import LocalApi

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | bytes | None


@dataclass
class Service:
    """A real ingress in this process, and the client that speaks to it."""

    world: World
    client: Client


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with ingress() as world:
        transport = httpx.ASGITransport(world.app)
        async with Client("http://127.0.0.1", transport=transport) as client:
            yield Service(world, client)


class Script(LocalApi):
    """Answers one after another, as told; None hangs up without an answer."""

    def plays(self, *answers: Answer) -> None:
        rest = list(answers)

        async def respond(request: web.Request) -> web.StreamResponse:
            answer = rest.pop(0)
            if answer is None:
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            if isinstance(answer, bytes):
                return await _broken_off(request, answer)
            status, body, *headers = answer
            if isinstance(body, bytes):
                return web.Response(status=status, body=body, headers=headers[0])
            return web.json_response(body, status=status, headers=headers[0] if headers else {})

        self.respond = respond


async def _broken_off(request: web.Request, said: bytes) -> web.StreamResponse:
    """An answer of which only this much arrives."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(said)
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.fixture
async def api() -> AsyncIterator[Script]:
    async with Script() as script:
        yield script


@pytest.fixture
async def client(api: Script) -> AsyncIterator[Client]:
    async with Client(api.url, "key-of-mine", patience_s=30) as opened:
        yield opened


def a_job(state: str = "queued", **more: Any) -> dict[str, Any]:
    done = state in {"succeeded", "failed", "canceled", "expired"}
    job = {"id": "job_1", "kind": "search", "state": state, "done": done, "generation": 1}
    return job | more


def a_problem(status: int, code: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "code": code, "detail": "It is so.", "request_id": "req_1"} | more
