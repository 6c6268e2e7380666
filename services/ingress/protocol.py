"""HTTP/1.1 on a connection, with the bounds that uvicorn's own protocol does not set.

httptools keeps a line until it is complete and uvicorn a head until it is complete, both without a
limit; what a caller sends as its body is bounded where it is read (`ingress.body`).
"""

from __future__ import annotations

from http import HTTPStatus

from uuid_utils import uuid7
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.error_handlers import problem_response
from ingress.problems import ProblemCode, RequestRefused

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; also trailers, and anything else between two pieces of a body."""
UNSENT_BODY_S = 0.5
"""At a stop: how long a body that is still on its way is waited for."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a head that is too large, and does not let a half-sent body hold up a stop.

    Theory of operation. The head is counted twice: exactly, by what the parser hands out, and
    roughly, by what came since it last handed out anything, because it hands out a header only
    when that is complete. The rough count leaves out what came in the same read, at most 256 KiB.
    """

    _head = 0
    _unseen = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see whether it keeps too much to itself."""
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

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which is counted by who reads it."""
        self._count(b"")
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """End the connection of a request that cannot be read, and say why."""
        if self._is_too_large():
            self.transport.write(_too_large())
            self.transport.close()
        else:
            super().send_400_response(msg)

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

    def _awaits_body(self) -> bool:
        if self.cycle is None:
            return False
        return self.cycle.more_body and not self.cycle.response_complete

    def _is_too_large(self) -> bool:
        return self._head + self._unseen > MAX_HEAD_BYTES

    def _count(self, *pieces: bytes) -> None:
        self._unseen = 0
        self._head += sum(map(len, pieces))
        if self._head > MAX_HEAD_BYTES:
            # The parser stops at it, and `send_400_response` is called with what it makes of it.
            raise ValueError("the head is too large")


def _too_large() -> bytes:
    """The answer as bytes: there is no request yet that an application could answer."""
    refused = RequestRefused(
        ProblemCode.HEADERS_TOO_LARGE,
        f"The request line and the headers may have at most {MAX_HEAD_BYTES} bytes together.",
        headers={"Connection": "close"},
    )
    response = problem_response(refused.to_problem("/", f"req_{uuid7().hex}"), refused.headers)
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [b"%b: %b" % header for header in response.raw_headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
