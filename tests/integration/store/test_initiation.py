"""Making the try-out's own MongoDB what the processes need, by the commands that its Jobs run."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from forebay.errors import ConfigurationError, StoreError, StoreUnavailable
from forebay.store import Inserted
from forebay.store.initiation import InitiationSettings, initiate
from forebay.store.mongo import open_store
from tests.command import begin, ended, forebay
from tests.contract.store.jobs import a_job
from tests.integration.store.conftest import settings_for
from tests.mongod_process import free_mongod_port, mongod

KEY = base64.b64encode(secrets.token_bytes(756)).decode()


class Locked:
    """A server that lets nobody in without the key, and what the command is told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_mongod_port()
        self.file = folder / "keyfile"
        self.file.write_text(f"{KEY}\n")
        self.file.chmod(0o400)

    def running(self) -> AbstractAsyncContextManager[None]:
        options = ("--replSet", "forebay", "--auth", "--keyFile", str(self.file))
        return mongod(self.folder, self.port, *options)

    @property
    def told(self) -> dict[str, str]:
        return {
            "MONGODB_MEMBERS": f"127.0.0.1:{self.port}",
            "MONGODB_KEYFILE_SECRET": f"{KEY}\n",
            "MONGODB_APP_PASSWORD": "app-pw",
            "MONGODB_ADMIN_PASSWORD": "admin-pw",
        }

    def settings(self, **changes: str) -> InitiationSettings:
        told = {name.lower(): text for name, text in self.told.items()}
        return InitiationSettings(**(told | changes))  # type: ignore[arg-type]

    def url(self, login: str = "forebay:app-pw") -> str:
        where = f"127.0.0.1:{self.port}/?replicaSet=forebay&authSource=admin"
        return f"mongodb://{login}@{where}"


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[Locked]:
    server = Locked(tmp_path)
    async with server.running():
        yield server


def changes(out: str) -> list[str]:
    return sorted(set(re.findall(r"\b(?:created|changed|unchanged|skipped)\b", out)))


async def test_the_commands_make_a_store_that_takes_jobs_twice_in_a_row_and_after_a_restart(
    tmp_path: Path,
) -> None:
    server = Locked(tmp_path)
    async with server.running():
        done = await forebay("store", "initiate", **server.told)
        assert (done.code, done.err, changes(done.out)) == (0, "", ["created"])
        done = await forebay("store", "initiate", **server.told)
        assert (done.code, changes(done.out)) == (0, ["unchanged"])
        done = await forebay("store", "apply", MONGODB_URL=server.url())
        assert (done.code, done.err) == (0, "")
        assert "The store is fit" in done.out
        async with open_store(settings_for(server.url())) as store:
            await store.prepare()
            assert [type(one) for one in await store.insert([a_job()])] == [Inserted]
    async with server.running():
        done = await forebay("store", "initiate", "--wait", "30", **server.told)
        assert (done.code, changes(done.out)) == (0, ["unchanged"])
        assert "-pw" not in done.out + done.err


async def test_the_users_can_do_what_they_are_for_and_no_more(locked: Locked) -> None:
    await initiate(locked.settings())
    app: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(locked.url())
    admin: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(locked.url("admin:admin-pw"))
    async with app, admin:
        await app["forebay"]["things"].insert_one({"a": 1})
        for name in ("other", "admin", "local"):
            with pytest.raises(OperationFailure, match="not authorized"):
                await app[name]["things"].find_one()
        await admin["other"]["things"].insert_one({"a": 1})
        assert (await admin.admin.command("replSetGetStatus"))["set"] == "forebay"


async def test_a_password_that_is_another_one_now_is_changed(locked: Locked) -> None:
    await initiate(locked.settings())
    steps = await initiate(locked.settings(mongodb_app_password="new-pw"))
    assert [(step.name, step.change) for step in steps] == [
        ("forebay", "unchanged"),
        ("admin", "unchanged"),
        ("forebay", "changed"),
    ]
    async with open_store(settings_for(locked.url("forebay:new-pw"))) as store:
        await store.prepare()


async def test_rights_that_are_other_ones_now_are_changed(locked: Locked) -> None:
    await initiate(locked.settings(mongodb_database="before"))
    assert (await initiate(locked.settings()))[-1].change == "changed"
    async with open_store(settings_for(locked.url())) as store:
        await store.prepare()


@pytest.mark.parametrize(
    ("login", "why"),
    [
        ("forebay:s3cr", "it does not let the user 'forebay' in: the user, the password or auth"),
        ("", "it wants a user and a password, and FOREBAY_MONGODB_URL has none (OperationFailure"),
        ("other:s3cr", "the user 'other' may not do this; it needs readWrite on forebay (Operat"),
    ],
)
async def test_a_login_that_will_not_do_is_said_without_the_password(
    locked: Locked, driver: str, login: str, why: str
) -> None:
    await initiate(locked.settings())
    admin: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(locked.url("admin:admin-pw"))
    async with admin:
        await admin.admin.command({"createUser": "other", "pwd": "s3cr", "roles": []})
    url = locked.url(login) if login else locked.url().replace("forebay:app-pw@", "")
    async with open_store(settings_for(url, driver)) as store:
        with pytest.raises(StoreUnavailable) as refused:
            await store.get("default", "job_1")
    assert str(refused.value).startswith(f"MongoDB at 127.0.0.1:{locked.port}: {why}")
    assert "s3cr" not in str(refused.value)


async def test_a_user_without_a_password_is_not_made_and_that_is_said(locked: Locked) -> None:
    told = locked.told
    del told["MONGODB_ADMIN_PASSWORD"]
    done = await forebay("store", "initiate", **told)
    assert done.code == 0
    assert "FOREBAY_MONGODB_ADMIN_PASSWORD" in done.out
    assert "skipped" in done.out


async def test_a_key_that_is_wrong_or_missing_is_said_and_not_waited_for(locked: Locked) -> None:
    done = await forebay(
        "store", "initiate", "--wait", "600", **{**locked.told, "MONGODB_KEYFILE_SECRET": "wrong"}
    )
    assert done.code == 1
    assert "FOREBAY_MONGODB_KEYFILE_SECRET is wrong" in done.err
    await initiate(locked.settings())
    unset = locked.settings().model_copy(update={"mongodb_keyfile_secret": None})
    with pytest.raises(StoreError, match="FOREBAY_MONGODB_KEYFILE_SECRET is not set"):
        await initiate(unset)


async def test_a_set_of_other_members_is_left_alone_and_that_is_said(locked: Locked) -> None:
    await initiate(locked.settings())
    other = locked.settings(mongodb_members=f"localhost:{locked.port}")
    with pytest.raises(StoreError, match=r"has the members 127\.0\.0\.1:\d+ and should have local"):
        await initiate(other)


async def test_a_member_that_is_not_there_yet_is_a_reason_to_try_again(locked: Locked) -> None:
    both = f"127.0.0.1:{locked.port},127.0.0.1:{free_mongod_port()},127.0.0.1:{free_mongod_port()}"
    with pytest.raises(StoreUnavailable, match="not ready to be a replica set"):
        await initiate(locked.settings(mongodb_members=both))
    # Nothing is spoiled by the try.
    assert (await initiate(locked.settings()))[0].change == "created"


async def test_a_server_whose_set_is_not_made_yet_is_unavailable_and_not_unfit(
    locked: Locked,
) -> None:
    url = f"mongodb://127.0.0.1:{locked.port}/?directConnection=true"
    async with open_store(settings_for(url)) as store:
        with pytest.raises(StoreUnavailable, match="waits for its replica set"):
            await store.prepare()


async def test_three_members_become_one_set(tmp_path: Path) -> None:
    ports = [free_mongod_port() for _ in range(3)]
    members = ",".join(f"127.0.0.1:{port}" for port in ports)
    one, two, three = (
        mongod(tmp_path / str(port), port, "--replSet", "forebay", "--oplogSize", "64")
        for port in ports
    )
    settings = InitiationSettings(mongodb_members=members)
    async with one, two, three:
        assert (await initiate(settings))[0].change == "created"
        assert (await initiate(settings))[0].change == "unchanged"
        async with open_store(settings_for(f"mongodb://{members}/?replicaSet=forebay")) as store:
            await store.prepare()


async def test_a_server_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    server = Locked(tmp_path)
    waiting = await begin("store", "initiate", "--wait", "60", **server.told)
    assert waiting.stderr is not None
    assert b"forebay: waiting: MongoDB at 127.0.0.1" in await waiting.stderr.readline()
    async with server.running():
        done = await ended(waiting)
        assert (done.code, changes(done.out)) == (0, ["created"])


async def test_nobody_there_is_said_when_the_time_is_over() -> None:
    told = {"MONGODB_URL": "mongodb://u:hunter2@127.0.0.1:1/", "MONGODB_TIMEOUT_S": "0.2"}
    done = await forebay("store", "apply", **told)
    assert done.code == 1
    nobody = "MongoDB at 127.0.0.1:1: nobody listens there (ServerSelectionTimeoutError)"
    assert done.err == f"forebay: {nobody}\n"
    done = await forebay("store", "apply", "--wait", "1", **told)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last == f"forebay: waited 1 s in vain: {nobody}"


async def test_sigterm_ends_the_waiting() -> None:
    told = {"MONGODB_URL": "mongodb://127.0.0.1:1/", "MONGODB_TIMEOUT_S": "0.2"}
    waiting = await begin("store", "apply", "--wait", "600", **told)
    assert waiting.stderr is not None
    await waiting.stderr.readline()
    waiting.terminate()
    assert (await ended(waiting)).code == 143


@pytest.mark.parametrize("members", ["", "host", "a:1,host", "user:pw@host:1", "mongodb://h:1"])
def test_members_that_cannot_be_are_named(members: str) -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_MONGODB_MEMBERS"):
        _ = InitiationSettings(mongodb_members=members).members


async def test_a_standalone_server_is_unfit_and_not_waited_for(standalone_url: str) -> None:
    done = await forebay("store", "apply", "--wait", "600", MONGODB_URL=standalone_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("forebay: this MongoDB is a standalone server")
