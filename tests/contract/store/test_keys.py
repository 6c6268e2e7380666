"""API keys, what is left of their quotas, and how many open jobs they have."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from uuid_utils import uuid7

from forebay.keys import ApiKey, Quota, Role, Token, Window, issue
from forebay.store import JobStore
from forebay.store.keys import KeyStore
from tests.contract.store.jobs import a_job, claimed, inserted, now


def a_key(tenant: str = "default", **more: object) -> tuple[ApiKey, Token]:
    return issue(tenant, "a program", Role.USER, now(), **more)  # type: ignore[arg-type]


def a_window(most: int, number: int = 7) -> Window:
    return Window(f"key_{uuid7().hex}", number, 60, most)


async def test_a_key_is_kept_as_it_was_made_and_its_secret_is_not(keys: KeyStore) -> None:
    key, token = a_key(quota=Quota(600, 30, 50), expires_at=now() + timedelta(days=1))
    await keys.add(key)
    await keys.add(key)
    found = await keys.find(key.id)
    assert found == key
    assert found.opens(token.secret)
    assert not found.opens(a_key()[1].secret)
    assert token.secret not in repr(found)
    assert await keys.find("key_unknown") is None


async def test_a_key_is_listed_and_revoked_by_its_own_tenant_only(keys: KeyStore) -> None:
    older, newer, theirs = a_key()[0], a_key()[0], a_key("other")[0]
    for key in (older, newer, theirs):
        await keys.add(key)
    assert [key.id for key in await keys.list("default")] == [newer.id, older.id]
    assert await keys.revoke("default", theirs.id) is None
    assert await keys.revoke("default", "key_unknown") is None
    assert await keys.find(theirs.id) == theirs


async def test_a_key_is_revoked_once_and_stays_so(keys: KeyStore) -> None:
    key = a_key()[0]
    await keys.add(key)
    revoked = await keys.revoke("default", key.id)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert not revoked.lives(now())
    assert await keys.revoke("default", key.id) == revoked
    await keys.add(key)
    assert await keys.find(key.id) == revoked
    assert await keys.list("default") == [revoked]


async def test_all_that_is_granted_of_a_window_is_its_quota_and_no_more(keys: KeyStore) -> None:
    window = a_window(100)

    async def replica() -> int:
        got = []
        for _ in range(101):
            grant = await keys.reserve(window, 16)
            if not grant.granted:
                assert grant.left == 0
                break
            assert grant.granted <= 16
            got.append(grant.granted)
        return sum(got)

    assert sum(await asyncio.gather(*(replica() for _ in range(6)))) == 100


async def test_a_share_is_small_so_that_the_last_requests_can_be_had_anywhere(
    keys: KeyStore,
) -> None:
    window = a_window(80)
    first, second = await keys.reserve(window, 1000), await keys.reserve(window, 1000)
    assert (first.granted, first.left) == (10, 70)
    assert (second.granted, second.left) == (9, 61)
    assert (await keys.reserve(window, 1)).granted == 1


async def test_windows_are_counted_apart(keys: KeyStore) -> None:
    window = a_window(1)
    following = Window(window.key_id, 8, 60, 1)
    for one in (window, following, a_window(1)):
        assert (await keys.reserve(one, 5)).granted == 1
        assert (await keys.reserve(one, 5)).granted == 0


async def test_a_quota_that_became_smaller_grants_nothing_beyond_it(keys: KeyStore) -> None:
    window = a_window(8)
    for _ in range(8):
        await keys.reserve(window, 1)
    grant = await keys.reserve(Window(window.key_id, window.number, 60, 4), 1)
    assert (grant.granted, grant.left) == (0, 0)


async def test_open_jobs_are_counted_by_key_up_to_a_limit(store: JobStore) -> None:
    mine = [a_job(key_id="key_1") for _ in range(4)]
    await inserted(store, *mine, a_job(key_id="key_2"), a_job())
    assert await store.count_open("key_1", 10) == 4
    assert await store.count_open("key_1", 3) == 3
    await store.cancel("default", mine[0].id)
    await claimed(store, mine[1])
    assert await store.count_open("key_1", 10) == 3
    assert await store.count_open("key_3", 10) == 0


@pytest.mark.parametrize(
    "text",
    ["", "fb_", "fb_1_2", "FB_" + "0" * 32 + "_" + "0" * 48, "fb_" + "0" * 32 + "_" + "g" * 48],
)
def test_what_is_no_token_is_not_read_as_one(text: str) -> None:
    assert Token.read(text) is None


def test_a_token_is_shown_as_text_only_when_it_is_asked_for() -> None:
    _, token = a_key()
    assert Token.read(str(token)) == token
    assert token.secret not in repr(token)
    assert len(bytes.fromhex(token.secret)) * 8 >= 128
