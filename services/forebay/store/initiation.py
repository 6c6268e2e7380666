"""Making fresh MongoDB servers a replica set, and the users of it: for a store of our own.

A managed MongoDB comes with both. Where we start the server ourselves (`make up`, the try-out in
Kubernetes, compose) somebody has to say which members belong together, and to make the users. Every
step looks first, so that a run that died is completed by the next one.

With `--keyFile` a server lets nobody in, and there is no user yet to log in as. The members' own
user `__system` exists from the beginning: its password is the key file's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from forebay.errors import ConfigurationError, StoreError, StoreUnavailable
from forebay.settings import SettingsGroup
from forebay.store.documents import Document

SET_NAME = "forebay"
APP_USER, ADMIN_USER = "forebay", "admin"
ANSWER_WITHIN_S = 5.0
PRIMARY_WITHIN_S = 15.0
"""An election takes up to 10 s and a little more."""

_ALREADY_INITIALIZED, _USER_EXISTS, _AUTHENTICATION_FAILED = 23, 51003, 18
_NOT_LET_IN = frozenset({13, _AUTHENTICATION_FAILED})
"""Without any login it is Unauthorized, with a wrong one it is AuthenticationFailed."""

Client = AsyncMongoClient[Document]


class InitiationSettings(SettingsGroup):
    """For `forebay store initiate`: which servers become the replica set, and its users."""

    mongodb_members: str
    """The members as they reach each other, `host:port`, separated by commas."""
    mongodb_keyfile_secret: SecretStr | None = None
    """The text of the members' key file; not set: they ask for no password."""
    mongodb_app_password: SecretStr | None = None
    """Password of the user `forebay`, who reads and writes its database; not set: not made."""
    mongodb_admin_password: SecretStr | None = None
    """Password of the user `admin`, who may do everything; not set: not made."""
    mongodb_database: str = "forebay"
    """The database of the user `forebay`."""

    @property
    def members(self) -> tuple[str, ...]:
        """The members; raises `ConfigurationError` for what is not `host:port`."""
        members = tuple(part.strip() for part in self.mongodb_members.split(",") if part.strip())
        wrong = [one for one in members if not _is_address(one)]
        if wrong or not members:
            raise ConfigurationError(
                f"FOREBAY_MONGODB_MEMBERS: '{', '.join(wrong)}' is not host:port; name the members "
                "as they reach each other, separated by commas"
            )
        return members

    @property
    def key(self) -> str | None:
        """The key without blanks, which the server leaves out too."""
        if self.mongodb_keyfile_secret is None:
            return None
        return "".join(self.mongodb_keyfile_secret.get_secret_value().split())


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the report: what, and what became of it."""

    what: str
    name: str
    change: str


async def initiate(settings: InitiationSettings) -> list[Step]:
    """Make the set and the users what the settings say; safe to repeat.

    Raises `StoreUnavailable` while the servers are not far enough (call it again), `StoreError`
    when they refuse for good, `ConfigurationError` for members that cannot be.
    """
    members = settings.members
    try:
        async with _client(members[0], settings.key, directConnection=True) as first:
            made = await make_set(first, members)
            await _until_primary(first)
        async with _client(",".join(members), settings.key, replicaSet=SET_NAME) as whole:
            users = [await _make_user(whole, settings, user) for user in _users(settings)]
    except OperationFailure as refused:
        raise _refusal(refused, settings) from refused
    except PyMongoError as error:
        raise StoreUnavailable(
            f"MongoDB at {', '.join(members)} does not answer: {type(error).__name__}"
        ) from error
    return [Step("replica set", SET_NAME, "created" if made else "unchanged"), *users]


async def make_set(client: Client, members: Sequence[str]) -> bool:
    """Make these members a set, over a direct connection to the first; False when it is one.

    Raises `StoreError` when it is a set of other members, and what the driver raises.
    """
    config = set_of(members)
    hello = await client.admin.command("hello")
    if not hello.get("setName"):
        try:
            await client.admin.command({"replSetInitiate": config})
        except OperationFailure as refused:
            if refused.code != _ALREADY_INITIALIZED:
                raise
        else:
            return True
    kept = (await client.admin.command("replSetGetConfig"))["config"]
    have = [member["host"] for member in kept["members"]]
    if sorted(have) != sorted(members):
        raise StoreError(
            f"MongoDB's replica set {kept['_id']} has the members {', '.join(have)} and should "
            f"have {', '.join(members)}; change it with rs.add() and rs.remove()"
        )
    return False


def set_of(members: Sequence[str]) -> Document:
    """The configuration of a set with these members."""
    numbered = [{"_id": number, "host": member} for number, member in enumerate(members)]
    return {"_id": SET_NAME, "members": numbered}


async def _until_primary(first: Client) -> None:
    """Wait for an election; raises `StoreUnavailable` when there is none in time."""
    try:
        async with asyncio.timeout(PRIMARY_WITHIN_S):
            # The server sets no event here.
            while not (await first.admin.command("hello")).get("primary"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StoreUnavailable("MongoDB's replica set has no primary yet") from None


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    password: SecretStr | None
    roles: tuple[Document, ...]


def _users(settings: InitiationSettings) -> list[_User]:
    app: Document = {"role": "readWrite", "db": settings.mongodb_database}
    everything: Document = {"role": "root", "db": "admin"}
    return [
        _User(ADMIN_USER, settings.mongodb_admin_password, (everything,)),
        _User(APP_USER, settings.mongodb_app_password, (app,)),
    ]


async def _make_user(client: Client, settings: InitiationSettings, user: _User) -> Step:
    if user.password is None:
        setting = "APP" if user.name == APP_USER else "ADMIN"
        return Step("user", user.name, f"skipped: FOREBAY_MONGODB_{setting}_PASSWORD is not set")
    password = user.password.get_secret_value()
    wanted = {"pwd": password, "roles": list(user.roles)}
    found = (await client.admin.command({"usersInfo": user.name}))["users"]
    if not found:
        try:
            await client.admin.command({"createUser": user.name, **wanted})
        except OperationFailure as refused:
            if refused.code != _USER_EXISTS:
                raise
        else:
            return Step("user", user.name, "created")
    elif _same_roles(found[0], user) and await _lets_in(settings, user.name, password):
        return Step("user", user.name, "unchanged")
    await client.admin.command({"updateUser": user.name, **wanted})
    return Step("user", user.name, "changed")


def _same_roles(found: Document, user: _User) -> bool:
    def pairs(roles: Sequence[Document]) -> set[tuple[str, str]]:
        return {(role["role"], role["db"]) for role in roles}

    return pairs(found["roles"]) == pairs(user.roles)


async def _lets_in(settings: InitiationSettings, name: str, password: str) -> bool:
    """Whether the password is in force; the server does not show it, so it is tried."""
    options = {"replicaSet": SET_NAME, "username": name, "password": password}
    async with _client(",".join(settings.members), None, authSource="admin", **options) as client:
        try:
            await client.admin.command("ping")
        except OperationFailure as refused:
            if refused.code == _AUTHENTICATION_FAILED:
                return False
            raise
    return True


@asynccontextmanager
async def _client(hosts: str, key: str | None, **options: Any) -> AsyncIterator[Client]:
    system: dict[str, Any] = {"username": "__system", "password": key, "authSource": "local"}
    client: Client = AsyncMongoClient(
        f"mongodb://{hosts}/",
        serverSelectionTimeoutMS=round(ANSWER_WITHIN_S * 1000),
        connectTimeoutMS=round(ANSWER_WITHIN_S * 1000),
        timeoutMS=round(PRIMARY_WITHIN_S * 1000),
        appName="forebay store initiate",
        **(options | system if key is not None else options),
    )
    async with client:
        yield client


def _refusal(refused: OperationFailure, settings: InitiationSettings) -> StoreError:
    """A server that is not far enough yet refuses as one does that never will: say so, try again.

    Seen at a start: a member that does not answer yet, a host name that does not resolve yet, a
    server that stops being primary. A wrong key is the one thing that time does not mend.
    """
    code = (refused.details or {}).get("codeName", refused.code)
    if refused.code in _NOT_LET_IN:
        given = "wrong" if settings.key is not None else "not set"
        return StoreError(
            f"MongoDB does not let us in ({code}): FOREBAY_MONGODB_KEYFILE_SECRET is {given}; it "
            "must be the text of the members' key file"
        )
    said = str((refused.details or {}).get("errmsg", code))
    return StoreUnavailable(f"MongoDB is not ready to be a replica set ({code}): {said}")


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and not set(text) & set("/@?#")
