"""A process that froze is noticed by its own liveness probe and started again."""

from __future__ import annotations

import time

import pytest

from .conftest import Up

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


async def test_a_frozen_process_is_started_again_by_its_liveness_probe(up: Up, figures: list[str]):
    cluster = up.cluster
    await cluster.until_complete(300)
    (pod,) = cluster.workload("Deployment", "reconciler").current
    (life,) = pod.lives
    before = pod.restarts
    began = time.monotonic()
    await cluster.engine.signal(life.docker_id, "SIGSTOP")
    await cluster.until(lambda: not pod.ready, 60, "the frozen pod is not ready")
    unready_s = time.monotonic() - began
    await cluster.until(
        lambda: pod.restarts == before + 1 and pod.ready, 240, "the frozen process runs anew"
    )
    figures.append(f"frozen: not ready after: {unready_s:.1f} s")
    figures.append(f"frozen: ready again after: {time.monotonic() - began:.1f} s")
    assert life.endings[-1].reason == "liveness"
    assert life.endings[-1].killed  # a stopped process does not hear SIGTERM
