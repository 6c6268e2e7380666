"""Where webhook endpoints live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from forebay.endpoints import MOST_SECRETS, Endpoint, SigningSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """What is to be different; None leaves it."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    description: str | None = None
    disabled: bool | None = None
    disabled_reason: str | None = None
    """With `disabled=True`."""


class EndpointStore(Protocol):
    """The tenants' webhook endpoints. Raises `StoreUnavailable` as `JobStore` does.

    All but `rotate` is safe to repeat; repeated, that leaves one more secret that signs.
    """

    async def add(self, endpoint: Endpoint) -> Endpoint:
        """Store a new endpoint; the one that is there under its id, if there is one."""

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """The endpoint; None for another tenant's too."""

    async def list(self, tenant: str) -> Sequence[Endpoint]:
        """The tenant's endpoints, the oldest first; the default one is not among them."""

    async def change(self, tenant: str, endpoint_id: str, to: EndpointChange) -> Endpoint | None:
        """The endpoint after the change; None when there is none."""

    async def rotate(
        self, tenant: str, endpoint_id: str, secret: str, until: datetime
    ) -> Endpoint | None:
        """Sign with a new secret, and with the ones before until then; None: no such endpoint."""

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """Whether there was one."""


class MemoryEndpointStore:
    """`EndpointStore` without a database."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}

    async def add(self, endpoint: Endpoint) -> Endpoint:
        """See `EndpointStore.add`."""
        return self._endpoints.setdefault(endpoint.id, endpoint)

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """See `EndpointStore.get`."""
        endpoint = self._endpoints.get(endpoint_id)
        return endpoint if endpoint is not None and endpoint.tenant == tenant else None

    async def list(self, tenant: str) -> Sequence[Endpoint]:
        """See `EndpointStore.list`."""
        return [
            endpoint
            for _, endpoint in sorted(self._endpoints.items())
            if endpoint.tenant == tenant and endpoint.url is not None
        ]

    async def change(self, tenant: str, endpoint_id: str, to: EndpointChange) -> Endpoint | None:
        """See `EndpointStore.change`."""
        endpoint = await self.get(tenant, endpoint_id)
        if endpoint is None:
            return None
        self._endpoints[endpoint_id] = endpoint.evolve(**fields_of(to))
        return self._endpoints[endpoint_id]

    async def rotate(
        self, tenant: str, endpoint_id: str, secret: str, until: datetime
    ) -> Endpoint | None:
        """See `EndpointStore.rotate`."""
        endpoint = await self.get(tenant, endpoint_id)
        if endpoint is None:
            return None
        old = (SigningSecret(one.value, one.until or until) for one in endpoint.secrets)
        secrets = (SigningSecret(secret), *old)[:MOST_SECRETS]
        self._endpoints[endpoint_id] = endpoint.evolve(secrets=secrets)
        return self._endpoints[endpoint_id]

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """See `EndpointStore.remove`."""
        if await self.get(tenant, endpoint_id) is None:
            return False
        del self._endpoints[endpoint_id]
        return True


def fields_of(to: EndpointChange) -> dict[str, object]:
    """The fields of an endpoint that a change sets; the reason goes with `disabled`."""
    named = ("url", "events", "description", "disabled")
    fields = {name: getattr(to, name) for name in named if getattr(to, name) is not None}
    if to.disabled is not None:
        fields["disabled_reason"] = to.disabled_reason if to.disabled else None
    return fields
