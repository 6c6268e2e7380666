"""Every workload is restarted under load, and no caller notices.

The rollouts go one after the other, each to its end (the old pods gone), under 100 requests a
second over kept connections. The store of the try-out has one member and cannot be restarted
unnoticed: it has a test of its own that says what callers see. The simulated providers are the
outside world and come last.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from .cluster import Cluster
from .conftest import Up
from .pod import Pod
from .traffic import Answer, Ledger, Traffic, outcomes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

ROLLOUTS = (
    ("Deployment", "ingress"),
    ("Deployment", "search-worker"),
    ("Deployment", "crawler-worker"),
    ("Deployment", "llm-worker"),
    ("Deployment", "webhook-worker"),
    ("Deployment", "reconciler"),
    ("StatefulSet", "rabbitmq"),
)
WORKERS = ("search-worker", "crawler-worker", "llm-worker", "webhook-worker")
WITHIN_S = 420.0
SETTLE = 500
"""Answers before the first and after the last rollout."""


async def provider_calls(cluster: Cluster) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{cluster.url('providers', 9080)}/_calls")
        found: list[dict[str, Any]] = answer.json()["calls"]
        return found


def events(pod: Pod, name: str) -> list[dict[str, Any]]:
    """The events of that name in the pod's log, which is whole once the pod is gone."""
    lines = [line for log in pod.logs.values() for line in log.splitlines()]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in found if event.get("event") == name]


@pytest.fixture
async def rolled(up: Up, figures: list[str]) -> Ledger:
    cluster = up.cluster
    await cluster.until_complete(WITHIN_S)
    async with Traffic(cluster.url("forebay")) as traffic:
        await traffic.until_sent(SETTLE)
        for kind, name in ROLLOUTS:
            began = time.monotonic()
            seconds = await cluster.roll(kind, name, WITHIN_S)
            seen = traffic.ledger.since(began)
            figures.append(f"rollout of {name}: {seconds:.1f} s, {seen.summary()}")
        await traffic.until_sent(SETTLE)
    figures.append(f"all rollouts: {traffic.ledger.summary()}")
    return traffic.ledger


async def test_no_caller_notices_a_rollout_and_nothing_is_lost_or_cut(
    up: Up, rolled: Ledger, figures: list[str]
):
    cluster = up.cluster
    assert not _told(rolled.errors), cluster.describe()
    jobs = await outcomes(cluster.url("forebay"), rolled.jobs)
    figures.append(f"jobs accepted and terminal: {len(rolled.jobs)}, {len(jobs)}")
    assert len(jobs) == len(rolled.jobs)
    assert not [job for job in jobs if job["state"] != "succeeded"]
    repeated = [job for job in jobs if job["attempts"] != 1]
    assert not repeated, repeated[:3]
    cut = [call for call in await provider_calls(cluster) if call["client_gone"]]
    assert not cut, cut[:3]
    _drained_well(cluster, figures)


def _told(errors: list[Answer]) -> list[str]:
    """The first of them, with their times."""
    return [f"{one.at:.2f} {one.method} {one.status} {one.error}" for one in errors[:20]]


def _drained_well(cluster: Cluster, figures: list[str]) -> None:
    """Every pod that was replaced ended by itself, in time, and its calls ended well."""
    for kind, name in ROLLOUTS:
        gone = [pod for pod in cluster.workload(kind, name).pods if pod.gone]
        assert gone
        for pod in gone:
            stopped = [one for one in pod.endings if one.reason == "stopped"]
            assert not [one for one in stopped if one.killed], f"{pod.name}: {pod.endings}"
            figures.append(f"  end of {pod.name}: {[one.took_s for one in stopped]} s")
    for name in WORKERS:
        drained = [event for pod in cluster.workload("Deployment", name).pods if pod.gone
                   for event in events(pod, "process.drained")]  # fmt: skip
        assert drained
        assert not [event for event in drained if event["aborted"]]


async def test_while_the_only_store_restarts_callers_are_told_to_come_again(
    up: Up, figures: list[str]
):
    cluster = up.cluster
    await cluster.until_complete(WITHIN_S)
    async with Traffic(cluster.url("forebay")) as traffic:
        await traffic.until_sent(SETTLE)
        began = time.monotonic()
        seconds = await cluster.roll("StatefulSet", "mongodb", WITHIN_S)
        during = traffic.ledger.since(began)
        await cluster.until_complete(WITHIN_S)
        await traffic.until_sent(SETTLE)
    figures.append(f"restart of the only MongoDB: {seconds:.1f} s, {during.summary()}")
    _refused_politely(traffic.ledger, figures)
    jobs = await outcomes(cluster.url("forebay"), traffic.ledger.jobs)
    again = sum(job["attempts"] > 1 for job in jobs)
    figures.append(f"  jobs accepted, terminal, called again: {len(jobs)}, {again}")
    assert not [job for job in jobs if job["state"] != "succeeded"]


def _refused_politely(ledger: Ledger, figures: list[str]) -> None:
    """Every refusal is a 503 that says when to come again."""
    refused = [one for one in ledger.errors if one.status == 503]
    others = [one for one in ledger.errors if one.status != 503]
    assert refused
    first, last = min(one.at for one in refused), max(one.at + one.took_s for one in refused)
    figures.append(f"  refused: {len(refused)} within {last - first:.1f} s")
    assert not others, _told(others)
    assert not [one for one in refused if one.retry_after is None], _told(refused)
