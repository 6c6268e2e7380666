"""Server-sent events (the WHATWG's HTML standard, 9.2) to one caller.

A caller who takes nothing is cut off like every other slow reader (`ingress.protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from forebay.tasks import end
from ingress.callers import until_left
from ingress.problems import ProblemCode, come_back

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"
"""A comment: it keeps proxies from closing the connection, and tells us of a caller who left."""
RETRY_MS = 1000
"""How long a browser waits before it connects again."""


def event(id_: int, type_: str, data: bytes) -> bytes:
    """One event; `data` is JSON on one line."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (id_, type_.encode(), data)


class EventStream(Response):
    """Sends events as they come, until they end or the caller leaves.

    Args:
        place: the caller's among those who wait; `RequestRefused` is raised when there is none.
    """

    media_type = MEDIA_TYPE

    def __init__(self, events: AsyncIterator[bytes], place: AbstractContextManager[bool]) -> None:
        # X-Accel-Buffering: nginx would keep the events back.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        with self._place as has_place:
            if not has_place:
                raise come_back(ProblemCode.OVERLOADED, "Too many callers wait for something here.")
            await self._send_until_left(scope, receive, send)

    async def _send_until_left(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send), name=f"events {scope['path']}")
        left = asyncio.create_task(until_left(receive))
        try:
            await asyncio.wait((sending, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(sending, left)
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        await _send(send, b"retry: %d\n\n" % RETRY_MS)
        async for piece in self._events:
            await _send(send, piece)
        await _send(send, b"", more=False)


async def _send(send: Send, piece: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})
