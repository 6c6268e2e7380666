"""The try-out as its pods would run: every probe passes and a job of each kind is done."""

from __future__ import annotations

import httpx
import pytest

from .conftest import Up
from .objects import Objects, pods_of
from .traffic import outcomes

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

KINDS = {
    "search": {"query": "hydro power"},
    "crawl": {"url": "http://providers:9081/pages/1"},
    "llm": {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]},
}


async def test_everything_comes_up_and_nothing_had_to_be_started_again(up: Up, figures: list[str]):
    figures.append(f"whole overlay up: {up.seconds:.1f} s")
    figures.extend(f"  {pod.name}: ready after {pod.ready_after_s} s" for pod in up.cluster.pods)
    assert not {name: count for name, count in up.restarts.items() if count}
    assert up.seconds < 180


async def test_every_long_lived_container_has_all_three_probes(up: Up):
    """A container without a probe would count as ready here, and nothing would be shown."""
    for workload, template in pods_of(Objects(up.manifests)):
        if workload["kind"] == "Job":
            continue
        for container in template["spec"]["containers"]:
            probes = {name for name in container if name.endswith("Probe")}
            assert probes == {"startupProbe", "livenessProbe", "readinessProbe"}, container["name"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_of_each_kind_succeeds_through_the_service(up: Up, kind: str):
    url = up.cluster.url("forebay")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        accepted = await client.post(f"/v1/{kind}", json=KINDS[kind])
    assert accepted.status_code == 202, accepted.text
    (job,) = await outcomes(url, [accepted.json()["id"]])
    assert job["state"] == "succeeded", job
    assert job["result"]


async def test_the_secrets_were_made_inside_by_the_least_role(up: Up):
    made = {
        name for verb, name, status in up.cluster.api.asked if (verb, status) == ("create", 201)
    }
    assert {"forebay-ingress", "forebay-worker", "forebay-reconciler", "forebay-prepare"} <= made
    assert {"rabbitmq", "mongodb"} <= made
    refused = [call for call in up.cluster.api.asked if call[2] in {401, 403}]
    assert not refused
