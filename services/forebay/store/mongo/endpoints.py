"""The webhook endpoints on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from forebay.endpoints import MOST_SECRETS, Endpoint, SigningSecret
from forebay.store.client import Connection
from forebay.store.documents import Document
from forebay.store.endpoints import EndpointChange, fields_of
from forebay.store.expressions import literal
from forebay.store.indexes import ENDPOINTS


class MongoEndpointStore:
    """`EndpointStore` on a MongoDB replica set."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._endpoints = connection.collection(ENDPOINTS)

    async def add(self, endpoint: Endpoint) -> Endpoint:
        """See `EndpointStore.add`."""
        async with self._connection.calling():
            try:
                await self._endpoints.insert_one(_document(endpoint))
            except DuplicateKeyError:
                there = await self._endpoints.find_one({"_id": endpoint.id})
                return endpoint if there is None else _endpoint(there)
        return endpoint

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """See `EndpointStore.get`."""
        async with self._connection.calling():
            document = await self._endpoints.find_one({"tenant": tenant, "_id": endpoint_id})
        return None if document is None else _endpoint(document)

    async def list(self, tenant: str) -> Sequence[Endpoint]:
        """See `EndpointStore.list`."""
        found = self._endpoints.find({"tenant": tenant, "url": {"$type": "string"}})
        async with self._connection.calling():
            documents = await found.sort("_id").to_list(None)
        return [_endpoint(document) for document in documents]

    async def change(self, tenant: str, endpoint_id: str, to: EndpointChange) -> Endpoint | None:
        """See `EndpointStore.change`."""
        fields = {name: literal(value) for name, value in fields_of(to).items()}
        if not fields:
            return await self.get(tenant, endpoint_id)
        return await self._swap(tenant, endpoint_id, fields)

    async def rotate(
        self, tenant: str, endpoint_id: str, secret: str, until: datetime
    ) -> Endpoint | None:
        """See `EndpointStore.rotate`."""
        # What has an end already keeps it.
        older = {"$mergeObjects": [{"until": until}, "$$this"]}
        kept = {"$map": {"input": "$secrets", "in": older}}
        every = {"$concatArrays": [[{"value": literal(secret)}], kept]}
        fields = {"secrets": {"$slice": [every, MOST_SECRETS]}}
        return await self._swap(tenant, endpoint_id, fields)

    async def remove(self, tenant: str, endpoint_id: str) -> bool:
        """See `EndpointStore.remove`."""
        async with self._connection.calling():
            done = await self._endpoints.delete_one({"tenant": tenant, "_id": endpoint_id})
        return done.deleted_count > 0

    async def _swap(self, tenant: str, endpoint_id: str, fields: Document) -> Endpoint | None:
        async with self._connection.calling():
            document = await self._endpoints.find_one_and_update(
                {"tenant": tenant, "_id": endpoint_id},
                [{"$set": fields}],
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else _endpoint(document)


def _document(endpoint: Endpoint) -> Document:
    return {
        "_id": endpoint.id,
        "tenant": endpoint.tenant,
        "url": endpoint.url,
        "created_at": endpoint.created_at,
        "secrets": [_secret(one) for one in endpoint.secrets],
        "events": [*endpoint.events],
        "description": endpoint.description,
        "disabled": endpoint.disabled,
        "disabled_reason": endpoint.disabled_reason,
    }


def _secret(secret: SigningSecret) -> Document:
    until = {} if secret.until is None else {"until": secret.until}
    return {"value": secret.value, **until}


def _endpoint(document: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        id=document["_id"],
        tenant=document["tenant"],
        url=document["url"],
        created_at=document["created_at"],
        secrets=tuple(SigningSecret(one["value"], one.get("until")) for one in document["secrets"]),
        events=tuple(document["events"]),
        description=document["description"],
        disabled=document["disabled"],
        disabled_reason=document["disabled_reason"],
    )
