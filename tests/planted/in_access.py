"""Bugs of who may do what, and how much of it."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import IN_MEMORY, INGRESS, ON_MONGODB

KEYS, MEMORY, MONGO = (
    "forebay/keys.py",
    "forebay/store/keys.py",
    "forebay/store/mongo/keys.py",
)
GATE, KEYRING, OPEN_JOBS, REQUESTS = (
    f"ingress/{name}.py" for name in ("gate", "keyring", "open_jobs", "request_quota")
)
CURSOR, EVENTS = "ingress/cursor.py", "ingress/routes/events.py"

ACCESS_BUGS = (
    Bug(
        "open mode serves whatever name it is called by",
        "I5",
        (Edit(GATE, "if not self._any_host and not is_ours(headers):", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "in open mode a web page of another site may do everything",
        "I5",
        (Edit(GATE, "if is_of_another_page(headers, any_host=self._any_host):", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "every key is of the same tenant",
        "I5",
        (Edit(GATE, "Caller(key.tenant, key, headers)", "Caller(DEFAULT_TENANT, key, headers)"),),
        (INGRESS,),
    ),
    Bug(
        "any secret opens a key",
        "I5",
        (Edit(GATE, " or not key.opens(token.secret)", ""),),
        (INGRESS,),
    ),
    Bug(
        "every role may everything",
        "I5",
        (Edit(GATE, "if access not in MAY[key.role]:", "if not MAY[key.role]:"),),
        (INGRESS,),
    ),
    Bug(
        "a revoked key works on",
        "I5",
        (Edit(KEYS, "return self.revoked_at is None and (", "return ("),),
        (INGRESS, IN_MEMORY, ON_MONGODB),
    ),
    Bug(
        "a key that was read once is believed for ever",
        "I5",
        (Edit(KEYRING, "if now - known.read_at >= self._max_age_s:", "if False:"),),
        (INGRESS,),
    ),
    Bug(
        "a stream goes on when its key is revoked",
        "I5",
        (
            Edit(
                EVENTS,
                "        if not await self._services.gate.still(self._request):\n"
                "            raise unauthenticated()\n",
                "",
            ),
        ),
        (INGRESS,),
    ),
    Bug(
        "a tenant can revoke another's key",
        "I5",
        (
            Edit(MONGO, '{"tenant": tenant, "_id": key_id}', '{"_id": key_id}'),
            Edit(MEMORY, "if key is None or key.tenant != tenant:", "if key is None:"),
        ),
        (INGRESS, IN_MEMORY, ON_MONGODB),
    ),
    Bug(
        "a cursor works for any tenant",
        "I5",
        (Edit(CURSOR, "hashlib.sha256(tenant.encode())", "hashlib.sha256(b'')"),),
        (INGRESS,),
    ),
    Bug(
        "more requests are granted than the quota",
        "I7",
        (
            Edit(KEYS, "return min(asked, left, max(", "return min(asked, max("),
            Edit(MONGO, '{"$min": [asked, left, {', '{"$min": [asked, {'),
        ),
        (INGRESS, IN_MEMORY, ON_MONGODB),
    ),
    Bug(
        "each replica has the whole quota to itself",
        "I7",
        (Edit(REQUESTS, "book.mine += grant.granted", "book.mine += book.window.most"),),
        (INGRESS,),
    ),
    Bug(
        "jobs that are being accepted are not counted as open",
        "I7",
        (Edit(OPEN_JOBS, "        count.in_flight += jobs\n", ""),),
        (INGRESS,),
    ),
)
