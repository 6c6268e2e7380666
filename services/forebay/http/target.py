"""The address gates for a URL that somebody else fetches for us."""

from __future__ import annotations

import socket

import httpx
from aiohttp.abc import AbstractResolver

from forebay.addresses import SCHEME_PORTS, AddressGuard
from forebay.errors import AddressForbidden
from forebay.http.transport import Gates


class TargetGate:
    """Judges a target by its letters and by what its name resolves to here and now.

    What is judged is not what is connected to: whoever fetches looks the name up again and follows
    redirects, so that a name that changes its mind (DNS rebinding) and a redirect pass.
    """

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._gates = Gates(guard, resolver)

    async def check(self, url: str) -> None:
        """Raises `AddressForbidden`; `httpx.InvalidURL`; `OSError` when the name has no answer."""
        reason = self._guard.check_url(url)
        if reason is not None:
            raise AddressForbidden(reason)
        target = httpx.URL(url)
        port = SCHEME_PORTS[target.scheme] if target.port is None else target.port
        await self._gates.resolve(target.raw_host.decode("ascii"), port, socket.AF_UNSPEC)
