"""What each route needs and what each role may: the one table.

A route that is not in it cannot be made (`DirectRoute` asks here), so none is open by oversight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType

from forebay.keys import Role


class Access(StrEnum):
    """What a route is for its caller."""

    PUBLIC = "public"
    """Probes and the description of the API: no key is asked for."""
    READ = "read"
    """Changes nothing."""
    WRITE = "write"
    """Makes or changes jobs and webhook endpoints."""
    MANAGE = "manage"
    """Makes or changes what decides who may do what."""


MAY: Mapping[Role, frozenset[Access]] = MappingProxyType(
    {
        Role.ADMIN: frozenset({Access.READ, Access.WRITE, Access.MANAGE}),
        Role.USER: frozenset({Access.READ, Access.WRITE}),
        Role.READ_ONLY: frozenset({Access.READ}),
    }
)

NEEDS: Mapping[str, Access] = MappingProxyType(
    {
        "GET /livez": Access.PUBLIC,
        "GET /readyz": Access.PUBLIC,
        "GET /metrics": Access.PUBLIC,
        "POST /v1/jobs": Access.WRITE,
        "POST /v1/search": Access.WRITE,
        "POST /v1/crawl": Access.WRITE,
        "POST /v1/llm": Access.WRITE,
        "GET /v1/jobs": Access.READ,
        "POST /v1/jobs/replay": Access.WRITE,
        "* /v1/jobs/replay": Access.PUBLIC,  # any other method: 405, as everywhere
        "GET /v1/jobs/{job_id}": Access.READ,
        "GET /v1/jobs/{job_id}/result": Access.READ,
        "GET /v1/jobs/{job_id}/events": Access.READ,
        "POST /v1/jobs/{job_id}/cancel": Access.WRITE,
        "POST /v1/jobs/{job_id}/retry": Access.WRITE,
        "DELETE /v1/jobs/{job_id}": Access.WRITE,
        "POST /v1/batches": Access.WRITE,
        "GET /v1/batches/{batch_id}": Access.READ,
        "GET /v1/batches/{batch_id}/results": Access.READ,
        "POST /v1/batches/{batch_id}/cancel": Access.WRITE,
        "POST /v1/batches/{batch_id}/retry": Access.WRITE,
        "POST /v1/webhook-endpoints": Access.WRITE,
        "GET /v1/webhook-endpoints": Access.READ,
        "GET /v1/webhook-endpoints/{endpoint_id}": Access.READ,
        "PATCH /v1/webhook-endpoints/{endpoint_id}": Access.WRITE,
        "DELETE /v1/webhook-endpoints/{endpoint_id}": Access.WRITE,
        # Who knows the secret can sign: not for those who only look.
        "GET /v1/webhook-endpoints/{endpoint_id}/secret": Access.WRITE,
        "POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret": Access.WRITE,
        "POST /v1/webhook-endpoints/{endpoint_id}/test": Access.WRITE,
        "GET /v1/webhook-deliveries": Access.READ,
        "GET /v1/webhook-deliveries/{delivery_id}": Access.READ,
        "POST /v1/webhook-deliveries/{delivery_id}/redeliver": Access.WRITE,
        "POST /v1/keys": Access.MANAGE,
        "GET /v1/keys": Access.MANAGE,
        "DELETE /v1/keys/{key_id}": Access.MANAGE,
    }
)

PUBLIC_PATHS = frozenset({"/static", "/docs", "/openapi.json"})
"""Served by the framework itself, without a key."""


def access_of(methods: Collection[str], path: str) -> Access:
    """What a route needs; raises `LookupError` for one that is not in the table."""
    route = route_name(methods, path)
    needed = NEEDS.get(route)
    if needed is None:
        raise LookupError(f"'{route}' must be in ingress.access.NEEDS")
    return needed


def route_name(methods: Collection[str], path: str) -> str:
    """How the table names a route; one of several methods is there with a star."""
    return f"{next(iter(methods)) if len(methods) == 1 else '*'} {path}"
