"""Carries the SDKs' requests over our own HTTP client.

Theory of operation. The SDKs are written for httpx2; our one client factory, with its limits,
timeouts and single attempt, is for httpx. `Carrier` is an httpx2 transport that hands each request
to our client and the answer back as it streams in. It is also the one place where the size of an
answer is bounded: no compression is asked for, and compressed answers are refused, because the
SDKs' decoders expand without a bound. A failure is raised as `CarriedError`, which the SDKs pass
on inside errors of their own; `carried_failure` finds the original again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import httpx2

from forebay.errors import TooLarge, Unreadable
from forebay.http import HTTP_FAILURES

# Our client frames the body and decides the coding itself.
_OWN_HEADERS = frozenset({b"accept-encoding", b"content-length", b"transfer-encoding", b"host"})


class CarriedError(httpx2.TransportError):
    """The call failed underneath; `__cause__` is what `outcome_of_failure` understands."""


class Carrier(httpx2.AsyncBaseTransport):
    """An httpx2 transport over an httpx client, which stays its owner's to close.

    Args:
        client: from `build_client`.
        max_response_bytes: largest answer passed on; more ends it with `TooLarge`.
    """

    def __init__(self, client: httpx.AsyncClient, max_response_bytes: int) -> None:
        self._client = client
        self._max_response_bytes = max_response_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it once; raises `CarriedError`."""
        headers = [pair for pair in request.headers.raw if pair[0].lower() not in _OWN_HEADERS]
        carried = self._client.build_request(
            request.method,
            str(request.url),
            headers=[*headers, (b"accept-encoding", b"identity")],
            content=await request.aread(),
        )
        try:
            response = await self._client.send(carried, stream=True)
        except HTTP_FAILURES as error:
            raise CarriedError("the call failed") from error
        return httpx2.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_Answer(response, self._max_response_bytes),
            extensions={"http_version": b"HTTP/1.1"},
        )


class _Answer(httpx2.AsyncByteStream):
    def __init__(self, response: httpx.Response, max_bytes: int) -> None:
        self._response = response
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            coding = self._response.headers.get("content-encoding", "").lower()
            if coding not in {"", "identity"}:
                raise Unreadable("the answer is in a content coding that was not asked for")
            async for chunk in self._response.aiter_raw():
                received += len(chunk)
                if received > self._max_bytes:
                    raise TooLarge("wire", self._max_bytes)
                yield chunk
        except HTTP_FAILURES as error:
            raise CarriedError("the answer broke off") from error

    async def aclose(self) -> None:
        await self._response.aclose()


def carried_failure(error: BaseException) -> Exception | None:
    """The failure underneath an SDK's error, or None if the call itself did not fail."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, CarriedError):
            return seen.__cause__ if isinstance(seen.__cause__, Exception) else seen
        seen = seen.__cause__
    return None


def sdk_client(client: httpx.AsyncClient, max_response_bytes: int) -> httpx2.AsyncClient:
    """What the SDKs take as `http_client`; it retries and redirects nothing."""
    return httpx2.AsyncClient(
        transport=Carrier(client, max_response_bytes),
        timeout=None,  # our client's timeouts hold
        follow_redirects=False,
        trust_env=False,
    )
