"""The rules that need no container: thresholds, strategies, expansion, access."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from .container_life import ContainerLife
from .controllers import Deployment, StatefulSet, part
from .engine import Engine
from .environment import expand, quantity, service_links
from .kube_api import allows
from .objects import Manifest, NotEmulated, Objects, only, selects
from .pod import Pod
from .probes import Watch
from .sandbox import Node

LABELS = {"app": "a"}


def node() -> Node:
    return Node(
        engine=Engine(), objects=Objects([]), network="none", host_ip="", prefix="p",
        holder_image="none", service_addresses={}, account_files=lambda _: {}, api_env={},
        changed=lambda: None, say=lambda _: None,
    )  # fmt: skip


def workload(replicas: int, **spec: Any) -> Manifest:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c"}]}}
    return {"metadata": {"name": "w"}, "spec": {"replicas": replicas, "template": template, **spec}}


def deployment(replicas: int, surge: Any, unavailable: Any) -> Deployment:
    bounds = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"type": "RollingUpdate", "rollingUpdate": bounds}
    return Deployment(node(), workload(replicas, strategy=strategy), lambda _: None)


def make_ready(*pods: Pod) -> None:
    for pod in pods:
        pod.phase = "Running"
        pod.lives = [cast(ContainerLife, SimpleNamespace(ready=True, endings=[]))]


def started(controller: Any) -> Any:
    controller.look()
    make_ready(*controller.current)
    return controller


def test_a_surging_rollout_ends_no_pod_before_its_successor_is_ready():
    rolling = started(deployment(2, surge=1, unavailable=0))
    first, second = rolling.current
    rolling.restart()
    rolling.look()
    assert len(rolling.current) == 3
    assert not first.terminating
    make_ready(rolling.current[-1])
    rolling.look()
    assert [first.terminating, second.terminating] == [True, False]
    assert len(rolling.current) == 3
    assert not rolling.complete


def test_a_rollout_without_surge_replaces_a_pod_that_ends_at_once_and_adds_no_third():
    rolling = started(deployment(1, surge=0, unavailable=1))
    (old,) = rolling.current
    rolling.restart()
    rolling.look()
    assert old.terminating
    (new,) = rolling.current
    assert new.revision == 2
    make_ready(new)
    rolling.look()
    assert rolling.complete
    assert len(rolling.pods) == 2


def test_a_stateful_set_waits_until_the_old_pod_is_gone_before_its_name_is_taken_again():
    restarting = started(StatefulSet(node(), workload(1, serviceName="s"), lambda _: None))
    (old,) = restarting.current
    restarting.restart()
    restarting.look()
    restarting.look()
    assert old.terminating
    assert restarting.pods == [old]
    old._ended.set()
    restarting.look()
    assert [pod.name for pod in restarting.current] == ["w-0"]
    assert restarting.current[0].revision == 2


@pytest.mark.parametrize(
    ("given", "of", "rounded", "found"),
    [("25%", 2, math.ceil, 1), ("25%", 2, math.floor, 0), (1, 2, math.ceil, 1)],
)
def test_a_share_of_the_replicas_is_rounded_in_favor_of_availability(
    given: Any, of: int, rounded: Any, found: int
):
    assert part(given, of, rounded) == found


def test_a_probe_decides_at_its_thresholds_only():
    watch = Watch({"failureThreshold": 2, "successThreshold": 2})
    seen = []
    for passed in (True, True, False, True, False, False, True, True):
        watch.count(passed)
        seen.append(watch.passing)
    assert seen == [None, True, True, True, True, False, False, True]


def test_references_are_expanded_and_doubled_dollars_are_not():
    known = {"A": "1", "B": "2"}
    assert expand("$(A)-$(B)-$(C)-$$(A)-$A", known) == "1-2-$(C)-$(A)-$A"


def test_services_are_announced_by_variables():
    service = {
        "kind": "Service",
        "metadata": {"name": "my-broker"},
        "spec": {"ports": [{"name": "amqp", "port": 5672}]},
    }
    found = service_links(Objects([service]), {"my-broker": "10.0.0.9"})
    assert found["MY_BROKER_PORT"] == "tcp://10.0.0.9:5672"
    assert found["MY_BROKER_SERVICE_PORT_AMQP"] == "5672"


def test_a_creation_is_not_allowed_by_a_rule_with_names():
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "get"]}
    named = {**rule, "resourceNames": ["a"]}
    assert allows(rule, "create", "")
    assert not allows(named, "create", "")
    assert allows(named, "get", "a")
    assert not allows(named, "get", "b")


def test_what_is_not_emulated_is_refused_and_not_passed_over():
    with pytest.raises(NotEmulated, match="hostNetwork"):
        only({"containers"}, {"containers": [], "hostNetwork": True}, "pod")
    with pytest.raises(NotEmulated, match="DaemonSet"):
        Objects([{"kind": "DaemonSet", "metadata": {"name": "d"}}])


def test_a_selector_takes_what_has_all_its_labels_and_an_empty_one_nothing():
    assert selects({"a": "1"}, {"a": "1", "b": "2"})
    assert not selects({"a": "1", "b": "3"}, {"a": "1", "b": "2"})
    assert not selects({}, {"a": "1"})


@pytest.mark.parametrize(("text", "found"), [("64Mi", 67108864), ("1G", 10**9), ("5", 5)])
def test_quantities_are_bytes(text: str, found: int):
    assert quantity(text) == found
