"""Whether a MongoDB can give what is promised: asked of it, then proven by a real write."""

from __future__ import annotations

import secrets

from pymongo.errors import OperationFailure, WriteConcernError, WTimeoutError

from forebay.errors import StoreUnavailable, StoreUnfit
from forebay.store.client import Connection

PROOFS = "proofs"

_WIRE_VERSION_6_0 = 17
_REFUSED = frozenset({2, 79, 100})
"""BadValue (`j` without a journal), UnknownReplWriteConcern, UnsatisfiableWriteConcern."""


async def prove_fit(connection: Connection) -> None:
    """Raise `StoreUnfit` for a standalone server or one too old; a set of one member is enough.

    Raises `StoreUnavailable` for a member whose set is still to be made: that will pass.
    """
    hello = await connection.client.admin.command("hello")
    if hello.get("isreplicaset"):
        raise StoreUnavailable("MongoDB waits for its replica set to be made (rs.initiate)")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StoreUnfit(
            "this MongoDB is a standalone server, which acknowledges before a majority can hold "
            "the write; start it with --replSet and run rs.initiate() (one member is enough)"
        )
    if hello["maxWireVersion"] < _WIRE_VERSION_6_0:
        raise StoreUnfit("this MongoDB is older than 6.0; the partial indexes need 6.0 or newer")


async def prove_durable(connection: Connection) -> None:
    """Write with majority and journal, then remove it; raises `StoreUnfit` when refused."""
    proof = {"_id": secrets.token_hex(16)}
    proofs = connection.collection(PROOFS)
    try:
        await proofs.insert_one(dict(proof))
        await proofs.delete_one(proof)
    except WTimeoutError:
        raise  # no majority now; that can pass
    except (WriteConcernError, OperationFailure) as refused:
        if isinstance(refused, WriteConcernError) or refused.code in _REFUSED:
            raise StoreUnfit(
                "this MongoDB refuses writes with w=majority and journal: it cannot keep what is "
                "accepted; use a replica set whose members journal"
            ) from refused
        raise
