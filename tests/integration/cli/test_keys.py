"""`forebay keys ...` as a process, on a real MongoDB."""

from __future__ import annotations

import json
import uuid

from forebay.keys import Role, Token
from forebay.settings import StoreSettings
from forebay.store.mongo import open_store
from tests.command import Ended, forebay


async def test_a_key_is_made_shown_once_listed_and_revoked(mongodb_url: str) -> None:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": f"keys_{uuid.uuid4().hex[:8]}"}

    async def keys(*words: str) -> Ended:
        return await forebay("keys", *words, **settings)

    made = await keys(
        *("create", "--tenant", "acme", "--role", "admin", "--name", "ops"),
        *("--requests", "600", "--open-jobs", "50", "--days", "30"),
    )
    assert made.code == 0, made.err
    token = Token.read(made.out.strip())
    assert token is not None
    assert token.key_id in made.err
    assert token.secret not in made.err

    listed = await keys("list", "--tenant", "acme", "--json")
    (shown,) = json.loads(listed.out)
    assert (shown["id"], shown["role"], shown["revoked_at"]) == (token.key_id, "admin", None)
    assert shown["quota"] == {"requests": 600, "window_s": 60, "open_jobs": 50}
    assert token.secret not in listed.out

    store_settings = StoreSettings(
        mongodb_url=mongodb_url,  # type: ignore[arg-type]
        mongodb_database=settings["MONGODB_DATABASE"],
    )
    async with open_store(store_settings) as store:
        key = await store.keys.find(token.key_id)
    assert key is not None
    assert key.role is Role.ADMIN
    assert key.opens(token.secret)

    assert (await keys("revoke", token.key_id, "--tenant", "other")).code == 1
    for _ in range(2):
        assert (await keys("revoke", token.key_id, "--tenant", "acme")).code == 0
    head, row = (await keys("list", "--tenant", "acme")).out.splitlines()[:2]
    assert head.split() == ["id", "role", "state", "name", "quota"]
    assert row.split()[:4] == [token.key_id, "admin", "revoked", "ops"]
    assert "600 in 60 s" in row


async def test_a_tenant_that_cannot_be_one_is_refused() -> None:
    said = await forebay("keys", "create", "--tenant", "A/B", "--name", "x")
    assert (said.code, said.out) == (2, "")
    assert "--tenant" in said.err
