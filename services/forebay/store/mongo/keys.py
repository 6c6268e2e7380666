"""API keys and their quotas on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from pymongo import DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from forebay.errors import StoreUnavailable
from forebay.keys import SHARES, ApiKey, Grant, Quota, Role, Window
from forebay.store.client import Connection
from forebay.store.documents import Document
from forebay.store.expressions import NOW
from forebay.store.indexes import KEYS, WINDOWS
from forebay.store.keys import MOST_LISTED
from forebay.store.mongo.base import TRIES

_KEPT = timedelta(hours=1)
"""How long a window's count is kept after its end: a replica's clock may be behind."""


class MongoKeyStore:
    """`KeyStore` on a MongoDB replica set."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = connection.collection(KEYS)
        self._windows = connection.collection(WINDOWS)

    async def add(self, key: ApiKey) -> None:
        """See `KeyStore.add`."""
        document = _document(key)
        async with self._connection.calling():
            await self._keys.update_one({"_id": key.id}, {"$setOnInsert": document}, upsert=True)

    async def find(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.find`."""
        async with self._connection.calling():
            document = await self._keys.find_one({"_id": key_id})
        return None if document is None else _key(document)

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """See `KeyStore.list`."""
        found = self._keys.find({"tenant": tenant}).sort("_id", DESCENDING).limit(MOST_LISTED)
        async with self._connection.calling():
            return [_key(document) for document in await found.to_list(None)]

    async def revoke(self, tenant: str, key_id: str) -> ApiKey | None:
        """See `KeyStore.revoke`."""
        async with self._connection.calling():
            document = await self._keys.find_one_and_update(
                {"tenant": tenant, "_id": key_id},
                [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", NOW]}}}],
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else _key(document)

    async def reserve(self, window: Window, asked: int) -> Grant:
        """See `KeyStore.reserve`."""
        # Again when another replica made the window's first record at the same moment.
        for _ in range(TRIES):
            async with self._connection.calling():
                try:
                    document: Any = await self._windows.find_one_and_update(
                        {"_id": f"{window.key_id}/{window.length_s}/{window.number}"},
                        _reserved(window, asked),
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                except DuplicateKeyError:
                    continue
            return Grant(document["granted"], max(window.most - document["taken"], 0))
        raise StoreUnavailable("the quota of the window is written by too many at once")


def _reserved(window: Window, asked: int) -> list[Document]:
    """The update that takes requests out of the quota; `granted` is what the last one took."""
    return [
        {
            "$set": {
                "taken": {"$ifNull": ["$taken", 0]},
                "expires_at": window.ends_at + _KEPT,
            }
        },
        {"$set": {"granted": _share({"$subtract": [window.most, "$taken"]}, asked)}},
        {"$set": {"taken": {"$add": ["$taken", "$granted"]}}},
    ]


def _share(left: Document, asked: int) -> Document:
    """`forebay.keys.share`, computed where nobody can come in between."""
    eighth = {"$toLong": {"$ceil": {"$divide": [left, SHARES]}}}
    return {"$max": [{"$min": [asked, left, {"$max": [eighth, 1]}]}, 0]}


def _document(key: ApiKey) -> Document:
    document = {
        "tenant": key.tenant,
        "name": key.name,
        "role": key.role.value,
        "digest": key.digest,
        "created_at": key.created_at,
        "quota": asdict(key.quota),
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
    return {name: value for name, value in document.items() if value is not None}


def _key(document: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        id=document["_id"],
        tenant=document["tenant"],
        name=document["name"],
        role=Role(document["role"]),
        digest=document["digest"],
        created_at=document["created_at"],
        quota=Quota(**document["quota"]),
        expires_at=document.get("expires_at"),
        revoked_at=document.get("revoked_at"),
    )
