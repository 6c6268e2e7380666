"""The filters and pipelines that look at many jobs and change none: lists, counts, ages. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from forebay.batches import BatchJobs
from forebay.jobs import DELIVERY_PREFIX, JobKind, JobState
from forebay.store import JobQuery, Route
from forebay.store.documents import Document
from forebay.store.expressions import NOW, all_of, ms
from forebay.store.indexes import ACTIVE
from forebay.store.updates import FAST_CLOCK_S, Pipeline


def listed(query: JobQuery) -> Document:
    """The filter of a list.

    Ids begin with the time, so a span of time is a span of the index too; with a minute on either
    side, because the exact time is another reading of the clock.
    """
    least, most, dead = query.created_from, query.created_before, query.dead_lettered
    several = {
        "state": query.states,
        "kind": query.kinds,
        "tags": query.tags,
        "history.provider": query.providers,
        "error.code": query.errors,
    }
    conditions: list[Document] = [
        {"tenant": query.tenant},
        {"_id": {"$gte" if query.deliveries else "$lt": DELIVERY_PREFIX}},
        *({name: {"$in": sorted(chosen)}} for name, chosen in several.items() if chosen),
    ]
    if dead is not None:
        conditions.append({"dead_lettered": dead})
    if query.all_tags:
        # Said for the index of deliveries, which alone are asked for so.
        conditions += [{"kind": JobKind.WEBHOOK.value}, {"tags": {"$all": sorted(query.all_tags)}}]
    if query.batch is not None:
        conditions.append(_of_batch(query.batch))
    if least is not None:
        conditions.append(
            {"created_at": {"$gte": _storable(least)}, "_id": {"$gte": _id_at(least, -60)}}
        )
    if most is not None:
        conditions.append(
            {"created_at": {"$lt": _storable(most)}, "_id": {"$lt": _id_at(most, 60)}}
        )
    if query.beyond is not None:
        conditions.append({"_id": {"$gt" if query.oldest_first else "$lt": query.beyond}})
    return {"$and": conditions}


def index_of(query: JobQuery) -> str | None:
    """The index that a list must use; None leaves it to the planner.

    Said, because the planner takes the span of ids for a reason to walk over those of all tenants.
    """
    if query.batch is not None:
        return None
    if query.all_tags:
        return "deliveries"
    return "dead" if query.dead_lettered else "newest"


def _storable(moment: datetime) -> datetime:
    """Rounded up to the millisecond: the driver rounds down, and stored times have no more."""
    return moment + timedelta(microseconds=-moment.microsecond % 1000)


def _id_at(moment: datetime, seconds: int) -> str:
    """Where the ids begin of jobs that were created so many seconds later."""
    return f"job_{max(round((moment.timestamp() + seconds) * 1000), 0):012x}"


def of_batch(tenant: str, jobs: BatchJobs) -> Document:
    """The filter of a batch's jobs."""
    return {"tenant": tenant, **_of_batch(jobs)}


def _of_batch(jobs: BatchJobs) -> Document:
    if jobs.members:
        return {"_id": {"$in": [*jobs.members]}}
    # `$type` says what the partial index is about.
    return {"batch_id": {"$eq": jobs.batch_id, "$type": "string"}}


def open_of(key_id: str) -> Document:
    """The filter of the jobs of an API key that are not terminal; said as the partial index is."""
    return {"key_id": {"$eq": key_id, "$type": "string"}, "state": {"$in": ACTIVE}}


def confirmed(route: Route) -> Document:
    """The filter of queued jobs of a route for which the broker confirmed a message."""
    kind, lane = route
    return {
        "kind": kind.value,
        "lane": lane.value,
        "state": JobState.QUEUED.value,
        "published_at": {"$type": "date"},
    }


def unclaimed(route: Route, older_than_s: float, after: datetime | None = None) -> Document:
    """The filter of queued jobs of a route whose message was confirmed that long ago.

    What was published then was queued before; said as well, because that is what the index knows.
    """
    waits = {"$subtract": [NOW, "$published_at"]}
    bound = {"$subtract": [NOW, ms(older_than_s - FAST_CLOCK_S)]}
    return {
        **confirmed(route),
        "$expr": all_of({"$gte": [waits, ms(older_than_s)]}, {"$lte": ["$queued_at", bound]}),
        **({} if after is None else {"queued_at": {"$gte": after}}),
    }


def first_unpublished(route: Route, most: int) -> Pipeline:
    """Of the `most` oldest queued jobs without a confirmed message: how many are of this route.

    And how many there are in all, and when the last of them was queued.
    """
    kind, lane = route
    of_route = all_of({"$eq": ["$kind", kind.value]}, {"$eq": ["$lane", lane.value]})
    return [
        {"$match": {"state": JobState.QUEUED.value, "published_at": None}},
        {"$sort": {"queued_at": 1}},
        {"$limit": most},
        {
            "$group": {
                "_id": None,
                "all": {"$sum": 1},
                "of_route": {"$sum": {"$cond": [of_route, 1, 0]}},
                "last": {"$max": "$queued_at"},
            }
        },
    ]


def queued_jobs(route: Route, before: datetime | None, limit: int) -> Pipeline:
    """Count queued jobs of a route, published or not: from an index alone, up to a limit."""
    kind, lane = route
    condition: Document = {
        "state": JobState.QUEUED.value,
        "kind": kind.value,
        "lane": lane.value,
        **({} if before is None else {"queued_at": {"$lt": before}}),
    }
    return [{"$match": condition}, {"$limit": limit}, {"$count": "count"}]


def newest_running(route: Route) -> Pipeline:
    """How long ago, in ms, the newest of a route's running jobs was queued.

    Of those that run for the first time: none of their messages can be older than that. A clock
    that is ahead is not believed: no message is confirmed before it is published.
    """
    running = {**confirmed(route), "state": JobState.RUNNING.value, "history": {"$size": 0}}
    placed = {"$min": ["$queued_at", "$published_at"]}
    return [
        {"$match": running},
        {"$group": {"_id": None, "newest": {"$max": placed}}},
        {"$project": {"age_ms": {"$subtract": [NOW, "$newest"]}}},
    ]
