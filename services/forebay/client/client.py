"""The client: its settings, and all its calls in one place."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from forebay.client.batches import BatchCalls
from forebay.client.connection import Connection
from forebay.client.jobs import JobCalls
from forebay.client.webhooks import WebhookCalls

TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""Long enough for an ingress to be replaced."""


class Client(JobCalls, BatchCalls, WebhookCalls):
    """Calls one Forebay service; use it with `async with`, from as many tasks as you like.

    Args:
        url: the address of the ingress, such as https://forebay.example.
        api_key: if the service asks for one.
        timeout_s: how long one answer may be silent, in seconds; waits come on top.
        patience_s: how long a call is tried again while the service is away, overloaded or limits
            the caller, in seconds, with growing pauses or those it asks for; 0 does not try again.
            Submissions carry an Idempotency-Key, so that a repeat is the same job.
        transport: httpx's own, for a proxy or certificates: `httpx.AsyncHTTPTransport(proxy=...)`.

    Raises `ValueError` for an address or a key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        connection = Connection(url, api_key, timeout_s, patience_s, transport)
        JobCalls.__init__(self, connection)
        BatchCalls.__init__(self, connection)
        WebhookCalls.__init__(self, connection)

    def __repr__(self) -> str:
        return f"Client({self._connection.url!r})"

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)
