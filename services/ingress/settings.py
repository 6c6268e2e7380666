"""What the ingress can be told."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.errors import ConfigurationError
from forebay.settings import SettingsGroup


class Authentication(StrEnum):
    """Whom the ingress lets in."""

    OPEN = "open"
    """Everybody, as one tenant."""
    KEYS = "keys"
    """Who has an API key."""


class AccessSettings(SettingsGroup):
    """Who may use the API."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_INGRESS_")

    authentication: Authentication = Authentication.OPEN
    """`keys`: every request to `/v1` needs an API key. `open`: none does, so it listens on loopback
    only, if not told otherwise, and serves no web pages of other sites."""
    key_max_age_s: Annotated[float, Field(gt=0, le=60)] = 45.0
    """How long an API key is believed without being read again, in seconds: a revoked one works no
    longer than this on any replica. It is read again in a third of it."""


class IngressSettings(SettingsGroup):
    """Where the ingress listens and what it bears."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_INGRESS_")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes any free one."""
    backlog: Annotated[int, Field(ge=1)] = 2048
    """Connections the kernel holds until they are taken: 500 arrive at once."""
    allow_open: bool = False
    """Although no API key is asked for, listen on another address than loopback, and serve whatever
    `Host` a request has."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """Largest request body, in bytes; a larger one is answered 413."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long a caller may take to send the body, in seconds; a slower one is answered 408."""
    max_batch_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Largest body of `POST /v1/batches`, in bytes."""
    batch_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a caller may take to send it, in seconds."""
    max_batches: Annotated[int, Field(ge=1)] = 4
    """Batches checked and stored at a time; one more is answered 503 `overloaded`."""
    max_wait_s: Annotated[float, Field(ge=0, le=300)] = 60.0
    """Longest `?wait=` of a caller, in seconds."""
    max_pending: Annotated[int, Field(ge=1)] = 5_000
    """Accepts in flight at most; one more is answered 503 `overloaded`."""
    max_unpublished: Annotated[int, Field(ge=1)] = 20_000
    """Accepted jobs held in memory for publishing at most; the relay publishes what is beyond."""
    accept_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    """How long an accept may wait for the store before it is answered 503 `store_unavailable`. A
    batch that fails refuses hundreds at once: a second is left to tell them all within 3 s. When
    the oldest accept has waited half of it, new submissions are answered 503 `overloaded`."""
    lame_duck_s: Annotated[float, Field(ge=0)] = 0.0
    """After SIGTERM: how long to serve on while load balancers notice, in seconds: not ready, and
    every answer ends its connection. In Kubernetes 5."""
    grace_s: Annotated[float, Field(ge=0)] = 10.0
    """After that: how long open requests, and after them the publishing, may take to finish."""

    def require_safe_address(self, authentication: Authentication) -> None:
        """Raise `ConfigurationError` when open mode would be reachable from another machine."""
        asked = authentication is Authentication.KEYS
        if asked or self.allow_open or _is_loopback(self.host):
            return
        raise ConfigurationError(
            f"FOREBAY_INGRESS_HOST is {self.host}, which other machines can reach, and no API key "
            "is asked for; say FOREBAY_INGRESS_AUTHENTICATION=keys, listen on 127.0.0.1, or say "
            "FOREBAY_INGRESS_ALLOW_OPEN=true"
        )


class PressureSettings(SettingsGroup):
    """What the ingress bears before it says so."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_INGRESS_")

    max_backlog_age_s: Annotated[float, Field(ge=0)] = 3600.0
    """How long a new job may have to wait for its turn, in seconds, for each kind and lane: beyond,
    a submission is answered 503 `overloaded`. 0: everything is accepted."""
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Connections of callers at most; then the one that waited longest for its caller makes way.
    Fewer if the process may not open so many files. Four fifths of them are for callers who wait
    for a job or follow one, and of those a tenant has half at most where API keys are asked for."""
    max_held_bytes: Annotated[int, Field(ge=1024)] = 128 * 1024 * 1024
    """Bytes of bodies that are being received and accepted, all together; beyond, a request is
    answered 503 `overloaded`. A tenant may have half of it where API keys are asked for."""
    max_held_batch_bytes: Annotated[int, Field(ge=1024)] = 128 * 1024 * 1024
    """The same for the bodies of `POST /v1/batches`."""
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long a caller may take to send the head of a request, in seconds; then 408."""
    write_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """A caller who takes less than 32 KiB of a waiting answer in so many seconds is cut off."""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
