"""The one place that makes a MongoDB client, and the one place that hears its errors.

Both drivers give the same collections with the same coroutines; where they differ is written here
and nowhere else: `aggregate` and `close`. Motor is imported only when it is chosen: it runs the
synchronous driver on a few threads and is at the end of its life (docs/decisions/0002).

What is promised to a caller rests on the write concern, so it is set here, explicitly, over
whatever the URL says: acknowledged by a majority, in the journal. Reads go to the primary with read
concern `majority`: what was acknowledged is seen by every process at once, and what is seen is
never rolled back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, cast

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from forebay.errors import ConfigurationError, StoreUnavailable
from forebay.settings import MongoDriver, StoreSettings
from forebay.store.documents import UNENCODABLE, Document, unstorable
from forebay.store.presence import Presence
from forebay.store.trouble import Trouble, is_away
from forebay.telemetry.logging import Logger

Collection = AsyncCollection[Document]
Client = AsyncMongoClient[Document]

_TOO_LARGE = frozenset({10334, 17419, 17420})
"""The server's codes for a document past 16 MiB."""

_FOR_ITS_TURN = 0.8
"""Of a call's time, the most it waits for a connection. One that is sent with hardly any time left
is not answered in it, and what is cut off costs a connection that the next call must open again."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, its database, the time limit of a call in seconds, and a turn for each connection.

    `trouble` puts the client's errors into words, `presence` hears how every call ended.

    Nobody waits inside the driver's pool: on Python 3.11 a waiter there that is canceled can leave
    the pool's lock taken for ever, after which every call of the process hangs. Seen with 200 calls
    over 50 connections, some of them canceled; a turn taken here first is also twice as fast.
    """

    client: Client
    database: AsyncDatabase[Document]
    timeout_s: float
    turns: asyncio.Semaphore
    trouble: Trouble
    presence: Presence

    def collection(self, name: str) -> Collection:
        """One collection."""
        return self.database[name]

    @asynccontextmanager
    async def calling(self, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Within it, driver calls are bounded in time together and fail as `StoreError` only.

        The deadline is set here and not left to the client's `timeoutMS`, which Motor counts only
        once a call has one of its few threads: a hundred calls on a frozen server then take 26 s.
        """
        limit_s = timeout_s or self.timeout_s
        turn_s = limit_s * _FOR_ITS_TURN
        began = time.monotonic()
        try:
            async with asyncio.timeout(turn_s):
                await self.turns.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"MongoDB: every connection is busy for {turn_s:g} s") from None
        try:
            # What the turn left of the time; to the driver 0 would be no limit at all.
            with pymongo.timeout(max(limit_s - (time.monotonic() - began), 0.001)):
                yield
        except UNENCODABLE as reason:
            raise unstorable(reason) from reason
        except (PyMongoError, TimeoutError) as reason:
            if isinstance(reason, OperationFailure) and reason.code in _TOO_LARGE:
                raise unstorable(reason) from reason
            why = self.trouble.say(reason, self.client)
            if is_away(reason):
                self.presence.lost(began, why)
            raise StoreUnavailable(why) from reason
        except StoreUnavailable as away:
            # It answered, and said that it cannot be used.
            self.presence.lost(began, str(away))
            raise
        else:
            self.presence.found(began)
        finally:
            self.turns.release()

    async def aggregate(
        self, collection: Collection, pipeline: Sequence[Document], **options: Any
    ) -> list[Document]:
        """All that the pipeline gives; PyMongo awaits the cursor, Motor does not."""
        cursor: Any = collection.aggregate(pipeline, **options)
        if isawaitable(cursor):
            cursor = await cursor
        found: list[Document] = await cursor.to_list(None)
        return found

    async def close(self) -> None:
        """Give the connections back; PyMongo awaits it, Motor does not."""
        closing: Any = self.client.close()
        if isawaitable(closing):
            await closing


def connect(settings: StoreSettings, logger: Logger | None = None) -> Connection:
    """A connection as the settings say; nothing is sent yet. Raises `ConfigurationError`.

    With a logger it says when the store is lost and found.
    """
    url = settings.mongodb_url.get_secret_value()
    trouble = Trouble(url, settings.mongodb_database)
    options: dict[str, Any] = {
        "w": "majority",
        "journal": True,
        "readConcernLevel": "majority",
        "readPreference": "primary",
        "retryWrites": True,
        "retryReads": True,
        "tz_aware": True,
        "maxPoolSize": settings.mongodb_pool_size,
        # Opening connections must not queue inside the pool either.
        "maxConnecting": settings.mongodb_pool_size,
        "serverSelectionTimeoutMS": _ms(settings.mongodb_timeout_s),
        "connectTimeoutMS": _ms(settings.mongodb_timeout_s),
        "timeoutMS": _ms(settings.mongodb_timeout_s),
        "appName": "forebay",
        "event_listeners": [trouble.listener],
    }
    make = _motor_client if settings.mongodb_driver is MongoDriver.MOTOR else _pymongo_client
    try:
        client = make(url, options)
    except (PyMongoError, ValueError) as reason:
        # The driver's message may repeat the URL, and the URL holds the password.
        raise ConfigurationError(
            f"FOREBAY_MONGODB_URL makes no sense to the driver: {type(reason).__name__}"
        ) from None
    turns = asyncio.Semaphore(settings.mongodb_pool_size)
    database = client[settings.mongodb_database]
    presence = Presence(trouble.hosts, logger)
    return Connection(client, database, settings.mongodb_timeout_s, turns, trouble, presence)


def _pymongo_client(url: str, options: dict[str, Any]) -> Client:
    return AsyncMongoClient(url, **options)


def _motor_client(url: str, options: dict[str, Any]) -> Client:
    try:
        from motor.motor_asyncio import (  # noqa: PLC0415  imported only when it is chosen
            AsyncIOMotorClient,
        )
    except ImportError:
        raise ConfigurationError(
            "FOREBAY_MONGODB_DRIVER is motor, and motor is not installed; install forebay[motor]"
        ) from None
    return cast("Client", AsyncIOMotorClient(url, **options))


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
