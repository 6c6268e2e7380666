"""The aiohttp transport, with the address guard at every place where an address is chosen.

Theory of operation. A call passes three gates, all of them public hooks of aiohttp:

1. the transport judges the URL as written (scheme, port, name, literal address);
2. the resolver judges every answer for a name, and aiohttp connects to those answers, not to a
   second look-up, so that a name that changes its mind (DNS rebinding) gains nothing;
3. the socket factory judges the very address a socket is made for. Whatever 1 and 2 may have
   missed, for instance two parsers that read one URL differently, ends here.

An entry of the allow-list passes 1 by its name; the addresses it resolves to are noted, with the
port, so that 3 lets them pass. A redirect is a call of its own and passes all three again.
"""

from __future__ import annotations

import socket

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from forebay.addresses import AddressGuard, judge
from forebay.errors import AddressForbidden
from forebay.http.resolver import Resolver

KEEPALIVE_S = 5.0
"""Shorter than what servers commonly grant, so that we seldom write to a connection just closed."""

_AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class ForbiddenSocket(AddressForbidden, OSError):
    """A socket to a forbidden address was about to be made; an OSError, as aiohttp expects one."""


class Gates:
    """Gates 2 and 3 of one client, and what the allow-list opened."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._resolver = resolver
        self._opened: set[tuple[str, int]] = set()

    def open_literal(self, host: str, port: int) -> None:
        """Note an address that the allow-list names itself."""
        if self._guard.allows(host, port):
            self._opened.add((host, port))

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        """The judged answers; raises `AddressForbidden` if one of them is forbidden."""
        answers = await self._resolver.resolve(host, port, family)
        addresses = [answer["host"] for answer in answers]
        reason = self._guard.check_resolved(host, port, addresses)
        if reason is not None:
            raise AddressForbidden(reason)
        if self._guard.allows(host, port):
            self._opened.update((address, port) for address in addresses)
        return answers

    def make_socket(self, info: _AddrInfo) -> socket.socket:
        """A socket for a judged address; raises `ForbiddenSocket`."""
        family, kind, proto, _, target = info
        address, port = str(target[0]), target[1]
        if (address, port) not in self._opened:
            reason = judge(address)
            if reason is not None:
                raise ForbiddenSocket(reason)
        return socket.socket(family, kind, proto)


class GuardedResolver(AbstractResolver):
    """Gate 2 in the shape aiohttp asks for."""

    def __init__(self, gates: Gates, resolver: AbstractResolver) -> None:
        self._gates = gates
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The judged answers; raises `AddressForbidden`."""
        return await self._gates.resolve(host, port, family)

    async def close(self) -> None:
        """Let go of the resolver inside."""
        await self._resolver.close()


class Transport(AiohttpTransport):
    """httpx over aiohttp; opens nothing before the first request."""

    def __init__(
        self,
        *,
        concurrency: int,
        guard: AddressGuard | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=concurrency, keepalive_expiry=KEEPALIVE_S)
        super().__init__(trust_env=False, limits=limits, client=self._open)
        self._guard = guard
        self._resolver = resolver or Resolver()
        self._gates: Gates | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; raises what httpx raises, and `AddressForbidden`."""
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self._open()
        self._judge_url(request.url)
        try:
            return await super().handle_async_request(request)
        except httpx.TransportError as error:
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, AddressForbidden):
                    raise AddressForbidden(str(cause)) from None
                cause = cause.__cause__
            raise

    async def aclose(self) -> None:
        """Close the connections and the resolver."""
        await super().aclose()
        await self._resolver.close()

    def _judge_url(self, url: httpx.URL) -> None:
        if self._guard is None or self._gates is None:
            return
        reason = self._guard.check_url(str(url))
        if reason is not None:
            raise AddressForbidden(reason)
        self._gates.open_literal(url.host, url.port or (443 if url.scheme == "https" else 80))

    def _open(self) -> aiohttp.ClientSession:
        resolver = self._resolver
        gates: Gates | None = None
        if self._guard is not None:
            gates = self._gates = Gates(self._guard, resolver)
            resolver = GuardedResolver(gates, resolver)
        connector = aiohttp.TCPConnector(
            limit=self.limits.max_connections or 0,
            keepalive_timeout=self.limits.keepalive_expiry,
            ssl=self.ssl_context,
            resolver=resolver,
            # With a guard, what was judged is what is connected to, look-up by look-up.
            use_dns_cache=self._guard is None,
            socket_factory=None if gates is None else gates.make_socket,
        )
        session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        # aiohttp repeats an idempotent call when the server hangs up. Attempts are counted before
        # the call, so a second one unseen would break the promise of `max_attempts`. There is no
        # public switch; tests/unit/http holds the effect.
        session._retry_connection = False  # noqa: SLF001
        return session
