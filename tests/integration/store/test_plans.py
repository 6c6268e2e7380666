"""That each query uses the index made for it, read off the server's own plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from forebay.jobs import Idempotency, JobKind, JobState, Lane
from forebay.store import JobQuery, selections, updates
from forebay.store.indexes import ACTIVE, JOBS
from forebay.store.mongo import MongoJobStore
from tests.contract.store.jobs import HOUR, a_job, a_waiting_job, inserted, now, started

DELIVERIES = JobQuery(tenant="default", deliveries=True)
TAGS = frozenset({"endpoint:we_1", "event:job.failed"})


def index_names(plan: Any) -> Iterator[str]:
    """Every index that a plan names, at any depth; a collection scan is named as itself."""
    if isinstance(plan, dict):
        if plan.get("stage") == "COLLSCAN":
            yield "COLLSCAN"
        if "indexName" in plan:
            yield plan["indexName"]
        for part in plan.values():
            yield from index_names(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from index_names(part)


@pytest.fixture
async def busy(store: MongoJobStore, raw: Any) -> Any:
    """A store with some of everything, most of it over."""
    await raw[JOBS].delete_many({})
    over = a_job(state=JobState.FAILED, expires_at=now() + HOUR, deadline=now(), start_by=now())
    dead = over.evolve(dead_lettered=True)
    await inserted(store, *(dead.evolve(id=f"{over.id}dead{n}") for n in range(20)))
    await inserted(store, *(over.evolve(id=f"{over.id}{n}") for n in range(200)))
    await inserted(store, *(a_job(deadline=now() + HOUR, start_by=now()) for _ in range(20)))
    await inserted(store, *(a_waiting_job(-HOUR) for _ in range(20)))
    await inserted(store, a_job(idempotency=Idempotency("key", "f")))
    await inserted(store, *(a_job(key_id=f"key_{n % 2}") for n in range(20)))
    told = {"kind": JobKind.WEBHOOK, "tags": tuple(TAGS), "state": JobState.SUCCEEDED}
    await inserted(store, *(a_job(id=f"msg_{n:032x}", **told) for n in range(50)))
    await started(store, lease_s=0)
    return raw


ROUTE = (JobKind.SEARCH, Lane.DEFAULT)
MILLISECOND = timedelta(milliseconds=1)
KEY = {"tenant": "default", "idempotency.key": {"$eq": "key", "$type": "string"}}


@pytest.mark.parametrize(
    ("condition", "order", "indexes"),
    [
        (KEY, None, {"idempotency"}),
        ({"tenant": "default"}, {"_id": -1}, {"newest"}),
        ({"tenant": "default", "dead_lettered": True}, {"_id": -1}, {"dead"}),
        (updates.unpublished(5), {"queued_at": 1}, {"unpublished"}),
        (selections.unclaimed(ROUTE, 40), {"queued_at": 1}, {"backlog"}),
        (selections.unclaimed(ROUTE, 40, now() - HOUR), {"queued_at": 1}, {"backlog"}),
        (updates.due(), {"not_before": 1}, {"due"}),
        (updates.lapsed(), {"lease.until": 1}, {"leases"}),
        (updates.overdue(), None, {"start_by", "deadline"}),
        (selections.open_of("key_1"), None, {"open"}),
        (updates.untold(2), {"untold.at": 1}, {"untold"}),
        (updates.deliveries_of("default", "endpoint:we_1"), None, {"deliveries"}),
    ],
)
async def test_a_query_uses_the_index_made_for_it(
    busy: Any, condition: dict[str, Any], order: dict[str, int] | None, indexes: set[str]
) -> None:
    find: dict[str, Any] = {"find": JOBS, "filter": condition, "limit": 10}
    if order is not None:
        find["sort"] = order
    explained = await busy.command("explain", find, verbosity="queryPlanner")
    assert set(index_names(explained["queryPlanner"]["winningPlan"])) == indexes


@pytest.mark.parametrize(
    ("query", "most"),
    [
        (DELIVERIES, 10),
        (replace(DELIVERIES, all_tags=TAGS), 10),
        (JobQuery(tenant="default"), 11),
        (JobQuery(tenant="default", dead_lettered=True), 11),
    ],
)
async def test_a_page_of_a_list_reads_little_more_than_it_shows(
    busy: Any, query: JobQuery, most: int
) -> None:
    find = {
        "find": JOBS,
        "filter": selections.listed(query),
        "sort": {"_id": -1},
        "limit": 10,
        "hint": selections.index_of(query),
    }
    explained = await busy.command("explain", find, verbosity="executionStats")
    stats = explained["executionStats"]
    assert stats["nReturned"] == 10
    assert stats["totalDocsExamined"] <= most
    assert stats["totalKeysExamined"] <= most


async def test_the_loops_read_nothing_that_is_over(busy: Any) -> None:
    for condition in (updates.unpublished(0), updates.due(), updates.lapsed(), updates.overdue()):
        find = {"find": JOBS, "filter": condition, "limit": 1000}
        explained = await busy.command("explain", find, verbosity="executionStats")
        stats = explained["executionStats"]
        # Two indexes may both hold a job; the 220 that are over are in neither.
        assert stats["totalDocsExamined"] <= 60


async def test_what_was_queued_lately_is_not_read_for_what_was_lost_before(
    busy: Any, store: MongoJobStore
) -> None:
    old = [a_job(queued_at=now() - HOUR) for _ in range(5)]
    await inserted(store, *old, *(a_job() for _ in range(100)))
    await busy[JOBS].update_many({"state": "queued"}, {"$set": {"published_at": now() - HOUR}})
    find = {"find": JOBS, "filter": selections.unclaimed(ROUTE, 600), "sort": {"queued_at": 1}}
    explained = await busy.command("explain", find, verbosity="executionStats")
    stats = explained["executionStats"]
    assert (stats["nReturned"], stats["totalDocsExamined"]) == (5, 5)


async def test_what_is_confirmed_is_counted_without_reading_it(
    busy: Any, store: MongoJobStore
) -> None:
    await inserted(store, *(a_job(published_at=now()) for _ in range(100)))
    first = selections.first_unpublished(ROUTE, 10)
    assert await examined(busy, first, "unpublished") == 10
    for before in (None, now() + HOUR):
        assert await examined(busy, selections.queued_jobs(ROUTE, before, 1000), "backlog") == 0


async def examined(raw: Any, pipeline: list[dict[str, Any]], index: str) -> int:
    """How many documents it takes."""
    command = {"aggregate": JOBS, "pipeline": pipeline, "cursor": {}, "hint": index}
    explained = await raw.command("explain", command, verbosity="executionStats")
    stats = explained.get("executionStats") or explained["stages"][0]["$cursor"]["executionStats"]
    assert stats["totalKeysExamined"] > 0
    return int(stats["totalDocsExamined"])


async def test_with_many_unpublished_jobs_those_queued_before_them_are_counted(
    busy: Any, store: MongoJobStore
) -> None:
    await busy[JOBS].delete_many({})
    told = {"queued_at": now() - 2 * HOUR, "published_at": now()}
    await inserted(store, *(a_job(**told) for _ in range(3)), a_job(published_at=now()))
    assert await store.confirmed(ROUTE, 100) == 4
    at = now() - HOUR
    waiting = [a_job(kind=JobKind.LLM, queued_at=at + n * MILLISECOND) for n in range(10_001)]
    await inserted(store, a_job(queued_at=at - HOUR), *waiting)
    assert await store.confirmed(ROUTE, 100) == 3
    await busy[JOBS].delete_many({})


async def test_the_backlog_reads_no_document(busy: Any) -> None:
    match = {"$match": {"state": {"$in": ACTIVE}}}
    group = {"$group": {"_id": {"s": "$state", "k": "$kind"}, "o": {"$min": "$queued_at"}}}
    command = {"aggregate": JOBS, "pipeline": [match, group], "cursor": {}, "hint": "backlog"}
    explained = await busy.command("explain", command, verbosity="executionStats")
    stats = explained.get("executionStats") or explained["stages"][0]["$cursor"]["executionStats"]
    assert stats["totalDocsExamined"] == 0
