"""API keys: whose they are, what they may do, and how much of it.

A key is sent as `fb_<id>_<secret>`. Only a digest of the secret is kept: SHA-256 and no slow hash,
because the secret is 192 random bits that nobody can try out, and every request pays for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from uuid_utils import uuid7

SECRET_BYTES = 24
TENANT_PATTERN = "^[a-z0-9][a-z0-9_-]{0,63}$"
MOST_REQUESTS = 10_000_000
MOST_WINDOW_S = 86_400
MOST_OPEN_JOBS = 100_000
"""Open jobs are counted one by one, up to the quota."""
MOST_LIVE_KEYS = 100
"""Live keys of a tenant: enough for a key per program and for rotation, and the list is bounded."""

_TOKEN = re.compile(rf"fb_([0-9a-f]{{32}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")
SHARES = 8
"""What is left of a window is given out in so many parts at least."""


class Role(StrEnum):
    """What a key may do within its tenant; what each route needs is in `ingress.access`."""

    ADMIN = "admin"
    """Everything, and the tenant's keys."""
    USER = "user"
    """Submit jobs, look at them, cancel, retry and forget them."""
    READ_ONLY = "read-only"
    """Look at jobs and batches, and change nothing."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a key may ask for; None: as much as the service bears."""

    requests: int | None = None
    """Requests in a window, whichever replicas they come to."""
    window_s: int = 60
    """The length of the window, in seconds."""
    open_jobs: int | None = None
    """Jobs of this key that are not done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key, as it is in the store."""

    id: str
    """`key_` and the hex of a UUIDv7: sorted by time of creation, and no secret."""
    tenant: str
    name: str
    """For people: who or what uses it."""
    role: Role
    digest: bytes = field(repr=False)
    """SHA-256 of the secret."""
    created_at: datetime
    quota: Quota = Quota()
    expires_at: datetime | None = None
    """It works no longer from then on."""
    revoked_at: datetime | None = None

    def opens(self, secret: str) -> bool:
        """Whether this is the key's secret; takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(digest_of(secret), self.digest)

    def lives(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Token:
    """What a caller sends."""

    key_id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        """The text that is sent; to be shown to its owner, once."""
        return f"fb_{self.key_id.removeprefix('key_')}_{self.secret}"

    @classmethod
    def read(cls, text: str) -> Token | None:
        """The token of a text; None for what cannot be one."""
        found = _TOKEN.fullmatch(text)
        return None if found is None else cls(f"key_{found[1]}", found[2])


def issue(
    tenant: str,
    name: str,
    role: Role,
    now: datetime,
    *,
    quota: Quota = Quota(),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, Token]:
    """A new key, and the token that opens it and is kept nowhere."""
    token = Token(f"key_{uuid7().hex}", secrets.token_hex(SECRET_BYTES))
    key = ApiKey(
        id=token.key_id,
        tenant=tenant,
        name=name,
        role=role,
        digest=digest_of(token.secret),
        created_at=_to_milliseconds(now),
        quota=quota,
        expires_at=None if expires_at is None else _to_milliseconds(expires_at),
    )
    return key, token


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a key's requests, the same for every replica whose clock is right."""

    key_id: str
    number: int
    length_s: int
    most: int

    @classmethod
    def at(cls, key: ApiKey, now: datetime) -> Window | None:
        """The window at a time; None for a key without such a quota."""
        quota = key.quota
        if quota.requests is None:
            return None
        number = int(now.timestamp() // quota.window_s)
        return cls(key.id, number, quota.window_s, quota.requests)

    @property
    def ends_at(self) -> datetime:
        """When the next one begins."""
        return datetime.fromtimestamp((self.number + 1) * self.length_s, UTC)


@dataclass(frozen=True, slots=True)
class Grant:
    """How many requests of a window a replica may let in, and how many are left for all."""

    granted: int
    left: int


def share(left: int, asked: int) -> int:
    """How many of what is left one replica gets at once.

    At most an eighth: the blocks become smaller to the end, so that the last request of a window
    can be had through any replica.
    """
    return min(asked, left, max(-(-left // SHARES), 1))


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def _to_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
