from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.ingress_by_hand import World, ingress


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress() as opened:
        yield opened
