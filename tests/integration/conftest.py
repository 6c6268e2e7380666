"""What several directories of integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.mongod_process import free_mongod_port, mongod


@pytest.fixture(scope="session")
async def standalone_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A mongod that is no replica set."""
    port = free_mongod_port()
    async with mongod(tmp_path_factory.mktemp("standalone"), port):
        yield f"mongodb://127.0.0.1:{port}/"
