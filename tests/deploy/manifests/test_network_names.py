"""Whom a host name means: it depends on the namespace in which somebody asks for it."""

from __future__ import annotations

import pytest

from tests.deploy.manifests.flows import UnknownHostError, needed
from tests.deploy.manifests.planted.mistake import SERIOUS, TRY_OUT
from tests.deploy.manifests.rendering import Render, render
from tests.deploy.manifests.workbench import Workbench, changed

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports


def telling(worker: str, name: str, address: str) -> Render:
    """A render in which the crawler or the webhook worker may call a further address."""
    setting = {"crawler-worker": "CRAWLER", "webhook-worker": "WEBHOOK"}[worker]
    told = {f"FOREBAY_{setting}_ALLOW_HOSTS": address}
    return changed(render(name), lambda bench: bench.settings().update(told))


def telling_the_crawler(name: str, address: str) -> Render:
    """A render whose crawler is told a further address."""
    return telling("crawler-worker", name, address)


def found(where: Render) -> set[str]:
    return {str(flow) for flow in needed(where)}


@pytest.mark.parametrize(
    ("name", "host", "target"),
    [
        (TRY_OUT, "rabbitmq", "rabbitmq"),
        (TRY_OUT, "rabbitmq.forebay", "rabbitmq"),
        (TRY_OUT, "rabbitmq.forebay.svc", "rabbitmq"),
        (TRY_OUT, "rabbitmq.forebay.svc.cluster.local", "rabbitmq"),
        (TRY_OUT, "mongodb-0.mongodb", "mongodb"),
        (TRY_OUT, "mongodb-0.mongodb.forebay.svc", "mongodb"),
        (SERIOUS, "rabbitmq.forebay.svc", "rabbitmq"),
        (SERIOUS, "mongodb-2.mongodb", "mongodb"),
    ],
)
def test_all_names_of_a_server_mean_the_server(name: str, host: str, target: str) -> None:
    port = {"rabbitmq": 15672, "mongodb": 27017}[target]
    flow = f"crawler-worker -> {target}:{port}/TCP"
    assert flow in found(telling_the_crawler(name, f"{host}:{port}"))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (TRY_OUT, "rabbit"),
        (TRY_OUT, "rabbitmq.elsewhere.svc"),
        (TRY_OUT, "forebay.rabbitmq.svc"),
        (TRY_OUT, "rabbitmq.forebay.svc.cluster"),
        (TRY_OUT, "mongodb-1.mongodb"),
        (TRY_OUT, "mongodb-0"),
        (SERIOUS, "mongodb-3.mongodb"),
        (SERIOUS, "providers"),
    ],
)
def test_a_name_that_means_nobody_is_not_passed_over(name: str, host: str) -> None:
    where = telling_the_crawler(name, f"{host}:27017")
    with pytest.raises(UnknownHostError, match=f"crawler-worker is told {host}:27017"):
        needed(where)


def test_a_receiver_that_webhooks_may_go_to_is_asked_for_by_the_webhook_worker_alone() -> None:
    where = telling("webhook-worker", TRY_OUT, "providers:9081")
    assert {flow for flow in found(where) if "providers:9081" in flow} == {
        "crawler-worker -> providers:9081/TCP",
        "webhook-worker -> providers:9081/TCP",
    }


def test_keda_is_told_the_broker_by_a_name_that_is_known_in_its_own_namespace() -> None:
    assert "keda -> rabbitmq:15672/TCP" in found(render(SERIOUS))


def call_by_the_short_name(bench: Workbench) -> None:
    """KEDA reads the URL that a Job of ours reads."""
    (wanted,) = bench.get("TriggerAuthentication", "rabbitmq")["spec"]["secretTargetRef"]
    wanted.update(name="forebay-prepare", key="forebay_rabbitmq_management_url")


def test_a_name_without_its_namespace_means_nobody_in_another_one() -> None:
    where = changed(render(SERIOUS), call_by_the_short_name)
    with pytest.raises(UnknownHostError, match="keda is told rabbitmq:15672"):
        needed(where)
