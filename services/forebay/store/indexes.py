"""The indexes, as data. Each names the query that needs it; every one is paid for on every write.

Partial indexes keep what is over out of the way: a terminal job is in the first four only, so the
loops cost the same at a thousand records and at ten million. MongoDB 6.0 or newer is needed (`$in`
in a partial filter).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

from forebay.jobs import TERMINAL, JobKind, JobState
from forebay.store import updates

JOBS = "jobs"
RESULTS = "results"
BATCHES = "batches"
ENDPOINTS = "webhook_endpoints"
KEYS = "keys"
WINDOWS = "quota_windows"
PACES = "paces"
"""Two documents: it needs no index."""
COLLECTIONS = (JOBS, RESULTS, BATCHES, ENDPOINTS, KEYS, WINDOWS)

DAY_S = 86_400

ACTIVE = sorted(state.value for state in JobState if state not in TERMINAL)
# The planner takes a partial index for `$in` only when the query names the very same states.
WAITING = sorted(state.value for state in updates.WAITING)
_A_TIME = {"$type": "date"}


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a collection."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    needed_by: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> IndexModel:
        """As the driver takes it."""
        return IndexModel(list(self.keys), name=self.name, **self.options)


INDEXES = (
    Index(
        JOBS,
        "idempotency",
        (("tenant", ASCENDING), ("idempotency.key", ASCENDING)),
        "insert: the same key is the same job; find_by_key",
        {"unique": True, "partialFilterExpression": {"idempotency.key": {"$type": "string"}}},
    ),
    Index(
        JOBS,
        "newest",
        (("tenant", ASCENDING), ("_id", DESCENDING)),
        "list: one tenant's jobs, newest first, from a cursor",
    ),
    Index(
        JOBS,
        "dead",
        (("tenant", ASCENDING), ("_id", DESCENDING)),
        "list: one tenant's jobs whose attempts ran out. By `newest` alone it would read all the "
        "others between two of them; few jobs are in here, so few writes pay",
        {"partialFilterExpression": {"dead_lettered": True}},
    ),
    Index(
        JOBS,
        "retention",
        (("expires_at", ASCENDING),),
        "the server's TTL monitor removes what is past its retention",
        {"expireAfterSeconds": 0, "sparse": True},
    ),
    Index(
        JOBS,
        "unpublished",
        (("queued_at", ASCENDING),),
        "unpublished: queued jobs without a confirmed message, oldest first",
        {"partialFilterExpression": {"state": JobState.QUEUED.value, "published_at": None}},
    ),
    Index(
        JOBS,
        "due",
        (("not_before", ASCENDING),),
        "queue_due: what waits for its time, first due first",
        {"partialFilterExpression": {"not_before": _A_TIME}},
    ),
    Index(
        JOBS,
        "leases",
        (("lease.until", ASCENDING),),
        "rescue: leases, first to run out first",
        {"partialFilterExpression": {"lease.until": _A_TIME}},
    ),
    Index(
        JOBS,
        "start_by",
        (("start_by", ASCENDING),),
        "expire: jobs that must have started by a time",
        {"partialFilterExpression": {"start_by": _A_TIME, "state": {"$in": WAITING}}},
    ),
    Index(
        JOBS,
        "deadline",
        (("deadline", ASCENDING),),
        "expire: jobs that must have finished by a time",
        {"partialFilterExpression": {"deadline": _A_TIME, "state": {"$in": WAITING}}},
    ),
    Index(
        JOBS,
        "backlog",
        (("state", ASCENDING), ("kind", ASCENDING), ("lane", ASCENDING), ("queued_at", ASCENDING)),
        "backlog: counted from the index alone, no document is read",
        {"partialFilterExpression": {"state": {"$in": ACTIVE}}},
    ),
    Index(
        JOBS,
        "batch",
        (("batch_id", ASCENDING), ("state", ASCENDING), ("_id", ASCENDING)),
        "tally: how many jobs of a batch are in each state; list: the jobs of a batch, in order",
        {"partialFilterExpression": {"batch_id": {"$type": "string"}}},
    ),
    Index(
        JOBS,
        "open",
        (("key_id", ASCENDING),),
        "count_open: how many jobs of an API key are not done; without a key a job is not in here",
        {
            "partialFilterExpression": {
                "key_id": {"$type": "string"},
                "state": {"$in": ACTIVE},
            }
        },
    ),
    Index(
        JOBS,
        "untold",
        (("untold.at", ASCENDING),),
        "untold: jobs with an end of which nobody was told yet, earliest first",
        {"partialFilterExpression": {"untold.at": _A_TIME}},
    ),
    Index(
        JOBS,
        "deliveries",
        (("tenant", ASCENDING), ("tags", ASCENDING), ("_id", DESCENDING)),
        "list: the webhook deliveries of an endpoint, a job or an event, newest first; "
        "cancel_deliveries. Only deliveries are in here",
        {"partialFilterExpression": {"kind": JobKind.WEBHOOK.value}},
    ),
    Index(
        ENDPOINTS,
        "tenant",
        (("tenant", ASCENDING), ("_id", ASCENDING)),
        "list: a tenant's webhook endpoints",
    ),
    Index(
        BATCHES,
        "idempotency",
        (("tenant", ASCENDING), ("idempotency.key", ASCENDING)),
        "open: the same key is the same batch",
        {"unique": True, "partialFilterExpression": {"idempotency.key": {"$type": "string"}}},
    ),
    Index(
        BATCHES,
        "retention",
        (("expires_at", ASCENDING),),
        "the server's TTL monitor removes the records of old batches",
        {"expireAfterSeconds": 0},
    ),
    Index(
        RESULTS,
        "retention",
        (("expires_at", ASCENDING),),
        "the server's TTL monitor removes large results with their jobs",
        {"expireAfterSeconds": 0},
    ),
    Index(
        KEYS,
        "tenant",
        (("tenant", ASCENDING), ("_id", DESCENDING)),
        "list: one tenant's keys, newest first",
    ),
    Index(
        KEYS,
        "revoked",
        (("revoked_at", ASCENDING),),
        "the server's TTL monitor removes keys 90 days after they were revoked",
        {"expireAfterSeconds": 90 * DAY_S, "sparse": True},
    ),
    Index(
        KEYS,
        "expired",
        (("expires_at", ASCENDING),),
        "the server's TTL monitor removes keys 90 days after they expired",
        {"expireAfterSeconds": 90 * DAY_S, "sparse": True},
    ),
    Index(
        WINDOWS,
        "retention",
        (("expires_at", ASCENDING),),
        "the server's TTL monitor removes the counts of windows that are over",
        {"expireAfterSeconds": 0},
    ),
)


def models(collection: str) -> list[IndexModel]:
    """The indexes of one collection, as the driver takes them."""
    return [index.model() for index in INDEXES if index.collection == collection]
