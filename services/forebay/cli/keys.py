"""`forebay keys ...`: API keys, straight in the store.

The way to a tenant's first admin key; with that one the rest can be had over `/v1/keys` too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from forebay.cli.patience import Wait, run_patiently
from forebay.cli.tables import AsJson, show_rows
from forebay.errors import ConfigurationError, ForebayError
from forebay.keys import (
    MOST_OPEN_JOBS,
    MOST_REQUESTS,
    MOST_WINDOW_S,
    TENANT_PATTERN,
    ApiKey,
    Quota,
    Role,
    issue,
)
from forebay.settings import StoreSettings, load
from forebay.store.keys import KeyStore
from forebay.store.mongo import open_store

keys_app = typer.Typer(help="API keys, straight in the store.", no_args_is_help=True)

Answer = TypeVar("Answer")
_Tenant = Annotated[str, typer.Option("--tenant", help="Whose key it is, such as `acme`.")]


class NoSuchKey(ForebayError):
    """The tenant has no such key."""


@keys_app.command("create")
def create(
    *,
    tenant: _Tenant,
    name: Annotated[str, typer.Option(help="Who or what uses it.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.USER,
    requests: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_REQUESTS, help="Requests in a window; any if left out."),
    ] = None,
    window_s: Annotated[
        int, typer.Option(min=1, max=MOST_WINDOW_S, help="The window, in seconds.")
    ] = Quota().window_s,
    open_jobs: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_OPEN_JOBS, help="Jobs not done; any if left out."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="How long it works; for ever if left out.")
    ] = None,
    as_json: AsJson = False,
    wait: Wait = 0,
) -> None:
    """Make a key and print it: this once, it is kept nowhere. Reads FOREBAY_MONGODB_URL."""
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise ConfigurationError(
            "--tenant must be 1 to 64 lower-case letters, digits, - and _, the first no sign"
        )
    now = datetime.now(UTC)
    expires_at = None if days is None else now + timedelta(days=days)
    quota = Quota(requests, window_s, open_jobs)
    key, token = issue(tenant, name, role, now, quota=quota, expires_at=expires_at)
    _with_keys(lambda keys: keys.add(key), wait)
    if as_json:
        _say({**_shown(key), "secret": str(token)})
        return
    sys.stderr.write(f"{key.id}: {role} of {tenant}. Keep this, it is not shown again:\n")
    sys.stdout.write(f"{token}\n")


@keys_app.command("list")
def list_(*, tenant: _Tenant, as_json: AsJson = False, wait: Wait = 0) -> None:
    """A tenant's keys, the newest first; those that were revoked too, for 90 days."""
    keys: Sequence[ApiKey] = _with_keys(lambda store: store.list(tenant), wait)
    if as_json:
        _say([_shown(key) for key in keys])
        return
    now = datetime.now(UTC)
    rows = ((key.id, key.role, _state(key, now), key.name, _limits(key.quota)) for key in keys)
    show_rows("id", "role", "state", "name", "quota", rows=rows, folding=2)


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="`key_...`, as `list` shows it.")],
    *,
    tenant: _Tenant,
    wait: Wait = 0,
) -> None:
    """Let a key work no longer; every replica refuses it within a minute. Safe to repeat."""
    if _with_keys(lambda keys: keys.revoke(tenant, key_id), wait) is None:
        raise NoSuchKey(f"tenant {tenant} has no key {key_id}")
    Console().print(f"{key_id} is revoked; every replica refuses it within a minute.")


def _with_keys(act: Callable[[KeyStore], Awaitable[Answer]], wait_s: float) -> Answer:
    settings = load(StoreSettings)

    async def attempt() -> Answer:
        async with open_store(settings) as store:
            return await act(store.keys)

    return run_patiently(attempt, wait_s)


def _limits(quota: Quota) -> str:
    requests = None if quota.requests is None else f"{quota.requests} in {quota.window_s} s"
    open_jobs = None if quota.open_jobs is None else f"{quota.open_jobs} open"
    return ", ".join(filter(None, (requests, open_jobs))) or "none"


def _say(shown: object) -> None:
    sys.stdout.write(f"{json.dumps(shown)}\n")


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "role": key.role.value,
        "quota": {
            "requests": key.quota.requests,
            "window_s": key.quota.window_s,
            "open_jobs": key.quota.open_jobs,
        },
        "created_at": key.created_at.isoformat(),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "live" if key.lives(now) else "expired"
