"""Making a broker's topology what `topology.py` says, through the management API.

Idempotent: each item is read, compared and written only when it differs, and each is reported. A
dry run does the same without writing. Nothing is ever deleted: what is in the broker and not in
the values may belong to somebody else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from forebay.broker.connection import redacted
from forebay.broker.topology import Binding, Exchange, Policy, Queue, Topology, User
from forebay.errors import BrokerError, BrokerUnavailable, ConfigurationError
from forebay.settings import SettingsGroup

_ANSWER_WITHIN_S = 15.0


class TopologySettings(SettingsGroup):
    """How to reach the management API, and the passwords of the users to make."""

    rabbitmq_management_url: SecretStr
    """`http://user:password@host:port`: RabbitMQ's management API as an administrator."""
    topology_ingress_password: SecretStr | None = None
    """Password of the user `forebay-ingress`; not set: the user is not made."""
    topology_reconciler_password: SecretStr | None = None
    """Password of the user `forebay-reconciler`; not set: the user is not made."""
    topology_worker_password: SecretStr | None = None
    """Password of the user `forebay-worker`; not set: the user is not made."""
    topology_monitor_password: SecretStr | None = None
    """Password of the user `forebay-monitor`; not set: the user is not made."""

    def passwords(self) -> dict[str, SecretStr | None]:
        """The passwords by role."""
        return {
            "ingress": self.topology_ingress_password,
            "reconciler": self.topology_reconciler_password,
            "worker": self.topology_worker_password,
            "monitor": self.topology_monitor_password,
        }


class Change(StrEnum):
    """What became of one item, or in a dry run what would become of it."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """Left out, and the detail says what to set."""
    CONFLICT = "conflict"
    """It is there in another form that cannot be changed in place; the detail says what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the report."""

    what: str
    name: str
    change: Change
    detail: str = ""


@asynccontextmanager
async def open_management(settings: TopologySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the management API; raises `ConfigurationError` for what is not an HTTP URL."""
    text = settings.rabbitmq_management_url.get_secret_value()
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(
            "FOREBAY_RABBITMQ_MANAGEMENT_URL is not of the form http://user:password@host:port"
        )
    base = url.copy_with(userinfo=b"").join("/api/")
    async with httpx.AsyncClient(
        base_url=base,
        auth=(url.username, url.password),
        timeout=_ANSWER_WITHIN_S,
        trust_env=False,
    ) as client:
        yield client


async def declare(
    client: httpx.AsyncClient,
    topology: Topology,
    passwords: Mapping[str, SecretStr | None],
    *,
    dry_run: bool = False,
) -> list[Item]:
    """Make the broker's topology that of the values; one item per thing, in the order done.

    Raises `BrokerUnavailable` when the API does not answer, `BrokerError` when it refuses.
    """
    return await _Declaration(_Api(client, dry_run=dry_run), topology).run(passwords)


class _Api:
    """The management API: reads always, writes unless it is a dry run."""

    def __init__(self, client: httpx.AsyncClient, *, dry_run: bool) -> None:
        self._client = client
        self._dry_run = dry_run

    async def read(self, *path: str) -> Any:
        """The object at a path, None when there is none."""
        response = await self._send("GET", path)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.json()

    async def put(self, *path: str, body: Mapping[str, Any]) -> None:
        """Write the object at a path."""
        if not self._dry_run:
            await self._send("PUT", path, body)

    async def post(self, *path: str, body: Mapping[str, Any]) -> None:
        """Add an object below a path."""
        if not self._dry_run:
            await self._send("POST", path, body)

    async def _send(
        self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        url = "/".join(quote(part, safe="") for part in path)
        try:
            response = await self._client.request(method, url, json=body)
        except httpx.HTTPError as error:
            raise BrokerUnavailable(
                f"the management API at {redacted(str(self._client.base_url))} does not answer: "
                f"{type(error).__name__} {error}"
            ) from error
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise BrokerError(_refusal(response))
        if response.is_server_error:
            # While a node starts its API answers before what is behind it does.
            said = _said(response)
            raise BrokerUnavailable(f"the management API failed: {method} {url}: {said}")
        if response.is_error and response.status_code != httpx.codes.NOT_FOUND:
            raise BrokerError(f"the management API refused {method} {url}: {_said(response)}")
        if method != "GET" and response.is_error:
            raise BrokerError(f"the management API does not know {url}: {_said(response)}")
        return response


class _Declaration:
    def __init__(self, api: _Api, topology: Topology) -> None:
        self._api = api
        self._topology = topology
        self._vhost = topology.vhost

    async def run(self, passwords: Mapping[str, SecretStr | None]) -> list[Item]:
        topology = self._topology
        report = [await self._declare_vhost(), await self._declare_administrator()]
        report += [await self._declare_exchange(exchange) for exchange in topology.exchanges]
        # Policies before queues, so that no queue is unbounded even for a moment.
        report += [await self._declare_policy(policy) for policy in topology.policies]
        report += [await self._declare_queue(queue) for queue in topology.queues]
        report += [await self._declare_binding(binding) for binding in topology.bindings]
        for user in topology.users:
            report += await self._declare_user(user, passwords.get(user.role))
        return report

    async def _settle(
        self,
        what: str,
        path: tuple[str, ...],
        wanted: Mapping[str, Any],
        same: Callable[[Any], bool] | None = None,
        *,
        fixed: bool = False,
    ) -> Item:
        """Read, compare, write: `fixed` things cannot be changed in place."""
        have = await self._api.read(*path)
        name = " ".join(path[1:]) if what in {"vhost", "user"} else " ".join(path[2:])
        if have is None:
            await self._api.put(*path, body=wanted)
            return Item(what, name, Change.CREATED)
        if (same or _holds(wanted))(have):
            return Item(what, name, Change.UNCHANGED)
        if fixed:
            return Item(
                what,
                name,
                Change.CONFLICT,
                "it is there with another type or durability; delete it and apply again",
            )
        await self._api.put(*path, body=wanted)
        return Item(what, name, Change.CHANGED)

    async def _declare_vhost(self) -> Item:
        wanted = {"description": self._topology.description}
        return await self._settle("vhost", ("vhosts", self._vhost), wanted)

    async def _declare_administrator(self) -> Item:
        """Whoever applies must be allowed to declare, and to look at the queues afterwards."""
        me = await self._api.read("whoami")
        return await self._declare_permission(
            User(me["name"], "administrator", write=".*", read=".*", configure=".*")
        )

    async def _declare_exchange(self, exchange: Exchange) -> Item:
        wanted = {"type": exchange.type, "durable": True}
        path = ("exchanges", self._vhost, exchange.name)
        return await self._settle("exchange", path, wanted, fixed=True)

    async def _declare_policy(self, policy: Policy) -> Item:
        wanted = {
            "pattern": policy.pattern,
            "definition": dict(policy.definition),
            "priority": policy.priority,
            "apply-to": "queues",
        }
        return await self._settle("policy", ("policies", self._vhost, policy.name), wanted)

    async def _declare_queue(self, queue: Queue) -> Item:
        wanted = {"durable": True, "arguments": {"x-queue-type": queue.type}}
        path = ("queues", self._vhost, queue.name)
        return await self._settle("queue", path, wanted, fixed=True)

    async def _declare_binding(self, binding: Binding) -> Item:
        name = f"{binding.exchange} to {binding.queue}: {binding.routing_key}"
        path = ("bindings", self._vhost, "e", binding.exchange, "q", binding.queue)
        have = await self._api.read(*path) or []
        if any(one["routing_key"] == binding.routing_key for one in have):
            return Item("binding", name, Change.UNCHANGED)
        await self._api.post(*path, body={"routing_key": binding.routing_key})
        return Item("binding", name, Change.CREATED)

    async def _declare_user(self, user: User, password: SecretStr | None) -> list[Item]:
        if password is None:
            setting = f"FOREBAY_TOPOLOGY_{user.role.upper()}_PASSWORD"
            return [Item("user", user.name, Change.SKIPPED, f"{setting} is not set")]
        secret = password.get_secret_value()
        wanted = {"password": secret, "tags": ",".join(user.tags)}
        item = await self._settle(
            "user", ("users", user.name), wanted, lambda have: _same_user(have, user, secret)
        )
        return [item, await self._declare_permission(user)]

    async def _declare_permission(self, user: User) -> Item:
        wanted = {"configure": user.configure, "write": user.write, "read": user.read}
        return await self._settle("permission", ("permissions", self._vhost, user.name), wanted)


def _refusal(response: httpx.Response) -> str:
    # It answers 401 also to users that it knows: "Not administrator user"; else "Login failed".
    known = "user" in response.text.lower()
    if response.status_code == httpx.codes.UNAUTHORIZED and not known:
        return (
            "the management API does not know this user or password (401); see "
            "FOREBAY_RABBITMQ_MANAGEMENT_URL"
        )
    return (
        "the user in FOREBAY_RABBITMQ_MANAGEMENT_URL must be an administrator; the management API "
        f"refused it ({response.status_code})"
    )


def _said(response: httpx.Response) -> str:
    return f"{response.status_code} {response.text[:300]}"


def _holds(wanted: Mapping[str, Any]) -> Callable[[Any], bool]:
    return lambda have: all(have.get(name) == value for name, value in wanted.items())


def _same_user(have: Mapping[str, Any], user: User, password: str) -> bool:
    tags = have.get("tags") or []
    # Before 3.9 the tags were one string.
    names = [tag for tag in tags.split(",") if tag] if isinstance(tags, str) else list(tags)
    return sorted(names) == sorted(user.tags) and _is_password(have, password)


def _is_password(have: Mapping[str, Any], password: str) -> bool:
    """RabbitMQ keeps 4 bytes of salt and the SHA-256 of salt and password, in base64."""
    if have.get("hashing_algorithm") != "rabbit_password_hashing_sha256":
        return False
    kept = base64.b64decode(have.get("password_hash") or "")
    return hashlib.sha256(kept[:4] + password.encode()).digest() == kept[4:]
