"""A tenant's webhook endpoints: where it wants to hear of its jobs, and the secrets that sign.

Each tenant also has a default endpoint, made at its first use. It has no URL: it signs what goes to
the URLs that jobs name themselves.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from forebay.jobs import JobState

SECRET_PREFIX = "whsec_"  # noqa: S105  Standard Webhooks says so; what follows is the secret
SECRET_BYTES = 24
"""Standard Webhooks asks for 24 to 64."""
OVERLAP = timedelta(hours=24)
"""How long an old secret signs beside the new one."""
MOST_SECRETS = 5
"""Of one endpoint; who rotates more often within a day loses the oldest."""


class WebhookEvent(StrEnum):
    """What can be told by webhook."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    JOB_EXPIRED = "job.expired"

    @classmethod
    def of(cls, state: JobState) -> WebhookEvent:
        """The event of a job's end."""
        return cls(f"job.{state}")


TEST_EVENT = "webhook.test"
"""Sent on request only."""


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """`whsec_` and base64."""

    value: str = field(repr=False)
    until: datetime | None = None
    """It signs until then; None: it is the present one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant hears of its jobs, as it is in the store at one moment."""

    id: str
    tenant: str
    url: str | None
    """None: the default endpoint."""
    created_at: datetime
    secrets: tuple[SigningSecret, ...]
    """The newest first."""
    events: tuple[str, ...] = ()
    """What it hears of; empty: everything."""
    description: str = ""
    disabled: bool = False
    disabled_reason: str | None = None
    """Who disabled it: `caller`, or `gone` when the receiver answered 410."""

    def evolve(self, **changes: Any) -> Self:
        """A copy with these fields changed."""
        return replace(self, **changes)

    def hears(self, event: WebhookEvent) -> bool:
        """Whether it is told of such an event."""
        wanted = not self.events or event in self.events
        return wanted and not self.disabled and self.url is not None

    def signing(self, now: datetime) -> tuple[str, ...]:
        """The secrets that sign now, the newest first."""
        return tuple(s.value for s in self.secrets if s.until is None or s.until > now)


def new_secret() -> str:
    """A secret nobody has."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def default_endpoint_id(tenant: str) -> str:
    """The id of the tenant's default endpoint: the same everywhere, so that it is made once."""
    return f"we_{hashlib.sha256(f'default endpoint of {tenant}'.encode()).hexdigest()[:32]}"


def default_endpoint(tenant: str, now: datetime) -> Endpoint:
    """A default endpoint for a tenant that has none yet."""
    return Endpoint(
        id=default_endpoint_id(tenant),
        tenant=tenant,
        url=None,
        created_at=now,
        secrets=(SigningSecret(new_secret()),),
    )
