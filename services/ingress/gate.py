"""Who may come in: every request to a route passes here, before anything of it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from starlette.requests import HTTPConnection

from forebay.keys import ApiKey, Token
from ingress.access import MAY, Access
from ingress.keyring import KeyRing
from ingress.pages import is_of_another_page, is_ours
from ingress.problems import ProblemCode, RequestRefused
from ingress.request_quota import Allowance, RequestQuota

DEFAULT_TENANT = "default"
"""Everybody, as long as no API key is asked for."""
_NOT_OUR_NAME = (
    "No API key is asked for here, so only this machine is served, under a name of its own: call "
    "http://localhost or http://127.0.0.1. For other names set "
    "FOREBAY_INGRESS_AUTHENTICATION=keys, or FOREBAY_INGRESS_ALLOW_OPEN=true if something else "
    "guards it."
)
_ANOTHER_PAGE = (
    "No API key is asked for here, so what a web page of another site sends is refused. Call from "
    "a program, or set FOREBAY_INGRESS_AUTHENTICATION=keys."
)
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    tenant: str
    key: ApiKey | None = None
    """None in open mode."""
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING, repr=False)
    """What every answer to this request says of the key's quota."""

    @property
    def key_id(self) -> str | None:
        """The id of the key."""
        return None if self.key is None else self.key.id


class Gate(Protocol):
    """Decides who a caller is and whether they may."""

    async def admit(self, connection: HTTPConnection, access: Access) -> Caller:
        """The caller, who is in `state.caller` from then on, of a refusal too.

        Raises `RequestRefused`, and `StoreUnavailable` when nobody can say who it is.
        """

    async def still(self, connection: HTTPConnection) -> bool:
        """Whether a caller who was admitted may stay: asked on streams, and after a wait."""


class OpenGate:
    """Lets every program in, as one tenant; for loopback, or behind a gate of somebody else.

    Args:
        any_host: other names than those of loopback are served: somebody else keeps the gate.
    """

    def __init__(self, *, any_host: bool) -> None:
        self._any_host = any_host
        self._everybody = Caller(DEFAULT_TENANT)

    async def admit(self, connection: HTTPConnection, access: Access) -> Caller:
        """See `Gate.admit`. A key made by who was not asked for one would outlive open mode."""
        connection.state.caller = self._everybody
        headers = connection.headers
        if not self._any_host and not is_ours(headers):
            raise RequestRefused(ProblemCode.FORBIDDEN, _NOT_OUR_NAME)
        if is_of_another_page(headers, any_host=self._any_host):
            raise RequestRefused(ProblemCode.FORBIDDEN, _ANOTHER_PAGE)
        if access is Access.MANAGE:
            raise RequestRefused(
                ProblemCode.FORBIDDEN,
                "No API key is asked for here, so nobody is an admin. Make the first key with "
                "`forebay keys create`, and set FOREBAY_INGRESS_AUTHENTICATION=keys.",
            )
        return self._everybody

    async def still(self, connection: HTTPConnection) -> bool:  # noqa: ARG002 - the protocol
        """See `Gate.still`."""
        return True


class KeyGate:
    """Asks for an API key."""

    def __init__(self, ring: KeyRing, quota: RequestQuota, clock: Callable[[], datetime]) -> None:
        self._ring = ring
        self._quota = quota
        self._clock = clock

    async def admit(self, connection: HTTPConnection, access: Access) -> Caller:
        """See `Gate.admit`."""
        key = await self._live_key(connection)
        if key is None:
            raise unauthenticated()
        allowance = await self._quota.take(key)
        headers = _NOTHING if allowance is None else allowance.headers
        caller = connection.state.caller = Caller(key.tenant, key, headers)
        if allowance is not None and not allowance.granted:
            raise _rate_limited(allowance)
        if access not in MAY[key.role]:
            raise RequestRefused(
                ProblemCode.FORBIDDEN,
                f"A key with the role {key.role} may not do this; take one that may.",
            )
        return caller

    async def still(self, connection: HTTPConnection) -> bool:
        """See `Gate.still`."""
        return await self._live_key(connection) is not None

    async def _live_key(self, connection: HTTPConnection) -> ApiKey | None:
        token = _token(connection)
        if token is None:
            return None
        key = await self._ring.find(token.key_id)
        if key is None or not key.opens(token.secret) or not key.lives(self._clock()):
            return None
        return key


def _token(connection: HTTPConnection) -> Token | None:
    scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
    return Token.read(credentials.strip()) if scheme.lower() == "bearer" else None


def unauthenticated() -> RequestRefused:
    """What whoever has no live key is answered."""
    # The same for no key, an unknown one and a revoked one: who guesses learns nothing.
    return RequestRefused(
        ProblemCode.UNAUTHENTICATED,
        "A live API key is needed; send it as `Authorization: Bearer fb_...`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _rate_limited(allowance: Allowance) -> RequestRefused:
    return RequestRefused(
        ProblemCode.RATE_LIMITED,
        "This API key has used its requests of the present window; nothing was done. Try again "
        f"in {allowance.reset_s} s.",
        retry_after_s=allowance.reset_s,
    )
