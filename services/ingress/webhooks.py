"""Where webhook endpoints are kept, and who is told of what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from uuid_utils import uuid7

from forebay.addresses import AddressGuard
from forebay.endpoints import (
    OVERLAP,
    Endpoint,
    SigningSecret,
    default_endpoint,
    default_endpoint_id,
    new_secret,
)
from forebay.errors import StoreUnavailable
from forebay.jobs import Job
from forebay.store import JobStore
from forebay.store.endpoints import EndpointChange, EndpointStore
from forebay.webhooks.delivery import endpoint_tag, test_delivery
from ingress.problems import ProblemCode, RequestRefused
from ingress.submission import Clock, check_address

MOST_ENDPOINTS = 20
"""Of one tenant: each is a delivery for every job. Counted before one is made: of several that are
made at the same moment a few more get in."""
KNOWN_FOR_S = 2.0
"""How long this process believes that a tenant has an endpoint, or has none. An endpoint made at
another replica hears of jobs that are submitted here this much later."""
PATIENCE_S = 0.5
"""How long a submission waits for that. It waits for its own commit afterwards, and a store that is
down must be told within 3 s."""
BY_CALLER = "caller"
DEFAULT = "default"
"""What callers call their default endpoint."""


@dataclass(frozen=True, slots=True)
class _Known:
    answer: asyncio.Task[bool]
    """One look for all who ask meanwhile."""
    until: float


class Webhooks:
    """The tenants' endpoints.

    Args:
        guard: judges where webhooks may go.
    """

    def __init__(
        self, endpoints: EndpointStore, jobs: JobStore, guard: AddressGuard, clock: Clock
    ) -> None:
        self._endpoints = endpoints
        self._jobs = jobs
        self._guard = guard
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def listened(self, tenant: str) -> bool:
        """Whether any endpoint of the tenant is to hear of a job that is submitted now.

        While the store does not answer, yes: whether there is one is seen when the job ends.
        """
        now = asyncio.get_running_loop().time()
        known = self._known.get(tenant)
        if known is None or known.until <= now:
            look = asyncio.create_task(self._look(tenant), name="webhook endpoints")
            known = self._known[tenant] = _Known(look, now + KNOWN_FOR_S)
        if not known.answer.done():
            await asyncio.wait({known.answer}, timeout=PATIENCE_S)
        return known.answer.result() if known.answer.done() else True

    async def _look(self, tenant: str) -> bool:
        try:
            return bool(await self._endpoints.list(tenant))
        except StoreUnavailable:
            return True

    async def create(
        self, tenant: str, url: str, events: tuple[str, ...], description: str
    ) -> Endpoint:
        """A new endpoint; raises `RequestRefused`."""
        check_address(self._guard, url, "/url")
        if len(await self._endpoints.list(tenant)) >= MOST_ENDPOINTS:
            raise RequestRefused(
                ProblemCode.TOO_MANY_ENDPOINTS,
                f"There are {MOST_ENDPOINTS} webhook endpoints already; remove one first.",
            )
        now = self._clock()
        endpoint = Endpoint(
            id=f"we_{uuid7().hex}",
            tenant=tenant,
            url=url,
            created_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
            secrets=(SigningSecret(new_secret()),),
            events=events,
            description=description,
        )
        added = await self._endpoints.add(endpoint)
        self._known.pop(tenant, None)
        return added

    async def list(self, tenant: str) -> Sequence[Endpoint]:
        """The tenant's endpoints, the oldest first."""
        return await self._endpoints.list(tenant)

    async def get(self, tenant: str, name: str) -> Endpoint:
        """The endpoint; raises `RequestRefused`. The default one is made when it is asked for."""
        if name == DEFAULT:
            return await self._endpoints.get(
                tenant, default_endpoint_id(tenant)
            ) or await self._endpoints.add(default_endpoint(tenant, self._clock()))
        return _found(await self._endpoints.get(tenant, name))

    async def change(self, tenant: str, endpoint_id: str, to: EndpointChange) -> Endpoint:
        """The endpoint after it; raises `RequestRefused`. Disabled, its waiting deliveries end."""
        if to.url is not None:
            check_address(self._guard, to.url, "/url")
        endpoint = _found(await self._endpoints.change(tenant, endpoint_id, to))
        if endpoint.disabled:
            await self._jobs.cancel_deliveries(tenant, endpoint_tag(endpoint_id))
        return endpoint

    async def rotate(self, tenant: str, name: str) -> Endpoint:
        """The endpoint with a new secret; raises `RequestRefused`. The old ones sign for a day."""
        endpoint = await self.get(tenant, name)
        until = self._clock() + OVERLAP
        return _found(await self._endpoints.rotate(tenant, endpoint.id, new_secret(), until))

    async def remove(self, tenant: str, endpoint_id: str) -> None:
        """Remove it; its waiting deliveries end. Raises `RequestRefused`."""
        if not await self._endpoints.remove(tenant, endpoint_id):
            raise no_such_endpoint()
        self._known.pop(tenant, None)
        await self._jobs.cancel_deliveries(tenant, endpoint_tag(endpoint_id))

    async def test(self, tenant: str, endpoint_id: str) -> Job:
        """A delivery of a test event; raises `RequestRefused`."""
        endpoint = await self.get(tenant, endpoint_id)
        now = self._clock()
        delivery = test_delivery(endpoint, now.replace(microsecond=now.microsecond // 1000 * 1000))
        await self._jobs.insert([delivery])
        return delivery


def no_such_endpoint() -> RequestRefused:
    """What every endpoint that is not the tenant's is answered with."""
    return RequestRefused(ProblemCode.NOT_FOUND, "There is no such webhook endpoint.")


def _found(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        raise no_such_endpoint()
    return endpoint
