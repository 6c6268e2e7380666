"""HTTP/1.1 on a connection, with the bounds that uvicorn's own protocol does not set.

httptools keeps a line until it is complete and uvicorn a head until it is complete, both without a
limit; what a caller sends as its body is bounded where it is read (`ingress.body`).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uuid_utils import uuid7
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.connections import Connections
from ingress.error_handlers import problem_response
from ingress.problems import ProblemCode, RequestRefused, overloaded

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; also trailers, and anything else between two pieces of a body."""
UNSENT_BODY_S = 0.5
"""At a stop: how long a body that is still on its way is waited for."""
LATE_BODY_S = 5.0
"""How long a body may still come that nobody reads any more: its request is answered."""
PROGRESS_BYTES = 32 * 1024
"""What a caller must take of a waiting answer within `write_timeout_s`."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large or too slow, and does not let a caller stand still.

    Theory of operation. The head is counted twice: exactly, by what the parser hands out, and
    roughly, by what came since it last handed out anything, because it hands out a header only
    when that is complete. The rough count leaves out what came in the same read, at most 256 KiB.

    What a caller is slow with is noted as the time since when, and judged at the next `look`.
    """

    _head = 0
    _unseen = 0
    _in_message = False
    """From a complete head to the end of its body."""
    _head_since: float | None = None
    _late_since: float | None = None
    _stuck: tuple[float, int] | None = None
    """Since when an answer waits for its reader, and how many bytes of it waited then."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place; with none left say so and hang up."""
        super().connection_made(transport)
        if self._all.opened(self):
            self._head_since = self.loop.time()
        else:
            self._refuse(overloaded())

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see whether it keeps too much to itself."""
        if self.transport.is_closing():
            return
        if not self._in_message and self._head_since is None:
            self._head_since = self.loop.time()
        self._unseen += len(data)
        super().data_received(data)
        if self._is_too_large() and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A new request: count from the beginning."""
        self._head = 0
        self._count(b"")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A complete header or trailer."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request: it is served from here on, while its body may still come."""
        self._head_since, self._in_message = None, True
        self._all.begins(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of a body."""
        self._in_message, self._late_since = False, None
        super().on_message_complete()
        if self.cycle.response_complete:
            self._all.waits(self)
        else:
            self._all.asks(self)

    def on_response_complete(self) -> None:
        """The end of an answer."""
        super().on_response_complete()
        if not self.cycle.response_complete:
            return  # the next request came before this answer: it is served now
        if self._in_message:
            self._late_since = self.loop.time()
        else:
            self._all.waits(self)

    def pause_writing(self) -> None:
        """More of an answer waits for its reader than there should."""
        super().pause_writing()
        self._stuck = self.loop.time(), self.transport.get_write_buffer_size()
        self._all.waits(self)

    def resume_writing(self) -> None:
        """The reader took it."""
        super().resume_writing()
        self._stuck = None
        if self._is_serving():
            self._all.asks(self)

    def give_way(self) -> None:
        """See `Held.give_way`."""
        self.transport.abort()

    def look(self, now: float) -> str | None:
        """See `Held.look`."""
        settings = self._all.settings
        if self.transport.is_closing() and self._stuck is None:
            # The last of an answer may still be on its way, but not for ever.
            self._stuck = now, self.transport.get_write_buffer_size()
        if self._stuck is not None and now - self._stuck[0] > settings.write_timeout_s:
            return self._cut_slow_reader(now, self._stuck[1])
        if self._late_since is not None and now - self._late_since > LATE_BODY_S:
            self.transport.abort()
            return "slow body"
        if self._head_since is not None and now - self._head_since > settings.head_timeout_s:
            self._head_since = None
            if self._head or self._unseen:
                self._refuse(_SLOW_HEAD)
            else:
                self.transport.close()
            return "slow head"
        return None

    def _cut_slow_reader(self, now: float, waited: int) -> str | None:
        waits = self.transport.get_write_buffer_size()
        if 0 < waits <= waited - PROGRESS_BYTES:
            self._stuck = now, waits
            return None
        self.transport.abort()
        return "slow reader"

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which is counted by who reads it."""
        self._count(b"")
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """End the connection of a request that cannot be read, and say why."""
        del msg
        self._refuse(_TOO_LARGE if self._is_too_large() else _UNREADABLE)

    def end_after_answer(self) -> None:
        """Let the answer that is not begun yet be the last one on this connection."""
        if self.cycle is None:
            return
        if not self.cycle.response_started:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """At a stop, answer what has come whole; who still sends after a moment is cut off."""
        super().shutdown()
        if self._awaits_body():
            self.loop.call_later(UNSENT_BODY_S, self._cut_off)

    def _cut_off(self) -> None:
        if self._awaits_body():
            self.transport.close()

    def _is_serving(self) -> bool:
        if self.cycle is None:
            return False
        return not self.cycle.response_complete

    def _awaits_body(self) -> bool:
        if self.cycle is None:
            return False
        return self.cycle.more_body and not self.cycle.response_complete

    def _refuse(self, refused: RequestRefused) -> None:
        self.transport.write(_answer(refused))
        self.transport.close()

    def _is_too_large(self) -> bool:
        return self._head + self._unseen > MAX_HEAD_BYTES

    def _count(self, *pieces: bytes) -> None:
        self._unseen = 0
        self._head += sum(map(len, pieces))
        if self._head > MAX_HEAD_BYTES:
            # The parser stops at it, and `send_400_response` is called with what it makes of it.
            raise ValueError("the head is too large")


_TOO_LARGE = RequestRefused(
    ProblemCode.HEADERS_TOO_LARGE,
    f"The request line and the headers may have at most {MAX_HEAD_BYTES} bytes together.",
)
_UNREADABLE = RequestRefused(
    ProblemCode.MALFORMED_REQUEST, "This is not a request in HTTP/1.1; nothing was accepted."
)
_SLOW_HEAD = RequestRefused(
    ProblemCode.REQUEST_TIMEOUT,
    "The head of the request did not come in time; nothing was accepted.",
)


def _answer(refused: RequestRefused) -> bytes:
    """The answer as bytes: there is no request yet that an application could answer."""
    response = problem_response(
        refused.to_problem("/", f"req_{uuid7().hex}"), {"Connection": "close"}
    )
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [b"%b: %b" % header for header in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
