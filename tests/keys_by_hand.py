"""API keys for tests of the ingress."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from forebay.keys import ApiKey, Quota, Role, Token, issue
from tests.ingress_by_hand import World


@dataclass(frozen=True)
class Held:
    """A key in somebody's hands."""

    key: ApiKey
    token: Token

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def give(
    world: World,
    role: Role = Role.USER,
    tenant: str = "acme",
    *,
    quota: Quota | None = None,
    expires_in_s: float | None = None,
) -> Held:
    """A key that is in the store."""
    now = world.clock()
    expires_at = None if expires_in_s is None else now + timedelta(seconds=expires_in_s)
    key, token = issue(tenant, "a test", role, now, quota=quota or Quota(), expires_at=expires_at)
    await world.services.keys.add(key)
    return Held(key, token)
