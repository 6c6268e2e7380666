"""The whole system for each test: private servers, simulated providers, our processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forebay.local.stack import Stack

from .callers import Callers
from .worker_settings import of_workers

SHORT_LEASES = of_workers(LEASE_S=3)


@asynccontextmanager
async def running_stack(directory: Path, **env: str) -> AsyncIterator[tuple[Stack, Callers]]:
    async with (
        Stack(directory, env={**SHORT_LEASES, **env}) as stack,
        Callers(stack.ingress_url, stack.site_url, directory / "ledger.jsonl") as callers,
    ):
        yield stack, callers


@pytest.fixture
def machine_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests stop and kill the servers, so they need private ones of this machine."""
    monkeypatch.setenv("FOREBAY_SERVERS", "machine")
