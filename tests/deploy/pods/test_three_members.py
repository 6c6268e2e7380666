"""The same manifests with three MongoDB members: restarted one by one, and no caller notices.

The try-out has one member, to be small. What a serious cluster has is tried here by changing two
values: the replicas, and the members that the Job initiates.
"""

from __future__ import annotations

import copy
import time
from collections.abc import AsyncIterator

import pytest

from .cluster import Cluster
from .objects import Manifest, Objects
from .traffic import Traffic, outcomes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

MEMBERS = 3
WITHIN_S = 600.0
SETTLE = 500


def with_three_members(rendered: list[Manifest]) -> list[Manifest]:
    manifests = copy.deepcopy(rendered)
    objects = Objects(manifests)
    store = objects.get("StatefulSet", "mongodb")
    assert store is not None
    store["spec"]["replicas"] = MEMBERS
    names = ",".join(f"mongodb-{n}.mongodb:27017" for n in range(MEMBERS))
    for job in objects.of("Job"):
        for container in job["spec"]["template"]["spec"]["containers"]:
            for entry in container.get("env", []):
                if entry["name"] == "FOREBAY_MONGODB_MEMBERS":
                    entry["value"] = names
    return manifests


@pytest.fixture
async def three(
    rendered: list[Manifest], image: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    directory = tmp_path_factory.mktemp("three")
    async with Cluster(with_three_members(rendered), directory, image) as cluster:
        await cluster.until_complete(WITHIN_S)
        yield cluster


async def test_no_caller_notices_that_the_members_restart(three: Cluster, figures: list[str]):
    async with Traffic(three.url("forebay")) as traffic:
        await traffic.until_sent(SETTLE)
        began = time.monotonic()
        seconds = await three.roll("StatefulSet", "mongodb", WITHIN_S)
        during = traffic.ledger.since(began)
        await traffic.until_sent(SETTLE)
    figures.append(f"rollout of three MongoDB members: {seconds:.1f} s, {during.summary()}")
    assert len(three.workload("StatefulSet", "mongodb").pods) == 2 * MEMBERS
    assert not traffic.ledger.errors[:5]
    jobs = await outcomes(three.url("forebay"), traffic.ledger.jobs)
    assert len(jobs) == len(traffic.ledger.jobs)
    assert {(job["state"], job["attempts"]) for job in jobs} == {("succeeded", 1)}
