"""How quickly the queues are worked off, on MongoDB: two documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forebay.jobs import JobKind, Lane
from forebay.pace import Pace, Route
from forebay.store.client import Connection
from forebay.store.indexes import PACES
from forebay.store.paces import Census

_ENDED, _TOLD = "ended", "told"


class MongoPaceStore:
    """`PaceStore` on a MongoDB replica set."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._paces = connection.collection(PACES)

    async def add_ended(self, ended: Mapping[Route, int]) -> None:
        """See `PaceStore.add_ended`."""
        more = {f"{kind}.{lane}": count for (kind, lane), count in ended.items()}
        if more:
            async with self._connection.calling():
                await self._paces.update_one({"_id": _ENDED}, {"$inc": more}, upsert=True)

    async def ended(self) -> Mapping[Route, int]:
        """See `PaceStore.ended`."""
        async with self._connection.calling():
            document = await self._paces.find_one({"_id": _ENDED}, {"_id": 0})
        return {
            (JobKind(kind), Lane(lane)): count
            for kind, lanes in (document or {}).items()
            for lane, count in lanes.items()
        }

    async def tell(self, paces: Sequence[Pace]) -> None:
        """See `PaceStore.tell`."""
        said = [
            {
                "kind": pace.kind.value,
                "lane": pace.lane.value,
                "waiting": pace.waiting,
                "oldest_s": pace.oldest_s,
                "per_s": pace.per_s,
            }
            for pace in paces
        ]
        new = {"$set": {"paces": said}, "$inc": {"turn": 1}}
        async with self._connection.calling():
            await self._paces.update_one({"_id": _TOLD}, new, upsert=True)

    async def told(self) -> Census | None:
        """See `PaceStore.told`."""
        async with self._connection.calling():
            document = await self._paces.find_one({"_id": _TOLD})
        if document is None:
            return None
        paces = [
            Pace(
                JobKind(one["kind"]),
                Lane(one["lane"]),
                waiting=one["waiting"],
                oldest_s=one["oldest_s"],
                per_s=one["per_s"],
            )
            for one in document["paces"]
        ]
        return Census(document["turn"], paces)
