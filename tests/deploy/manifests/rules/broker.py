"""RabbitMQ, ours and the operator's, and what the processes and probes expect of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tests.deploy.manifests.known_settings import WORKERS, in_container, worker_group
from tests.deploy.manifests.objects import Pod, containers, label, source_name, sources
from tests.deploy.manifests.rendering import MANIFESTS, Object, Render

PLUGINS = {15672: "rabbitmq_management", 15692: "rabbitmq_prometheus"}
"""Which plugin listens on a port."""
OTHER_MARKS = {
    "vm_memory_high_watermark.absolute": "vm_memory_high_watermark.relative",
    "disk_free_limit.absolute": "disk_free_limit.absolute",
}
"""What a node of the operator is told in place of a shared key, because it is of another size."""
_GROWTH = "quorum_queue.continuous_membership_reconciliation."
_HOUR_MS, _SOON_MS = 3_600_000, 300_000


class Broker(NamedTuple):
    """A broker of a render: what violations call it, and its configuration."""

    name: str
    told: Mapping[str, str]


def waits_for_the_longest_call(render: Render) -> list[str]:
    """The broker does not take a message back while it may still be worked on.

    A message that is held beyond the concurrency waits for one call, and then has one of its own.
    """
    longest = max(
        (
            in_container(render, one, worker_group(one.module)).timeout_s
            for one in containers(render)
            if one.module in WORKERS
        ),
        default=0,
    )
    said = []
    for one in _brokers(render):
        text = one.told.get("consumer_timeout")
        if text is None:
            said.append(f"{one.name}: says no consumer_timeout")
        elif int(text) / 1000 <= 2 * longest:
            needed = f"a message may need {2 * longest:g} s"
            said.append(f"{one.name}: consumer_timeout is {text} ms, {needed}")
    return said


def is_told_what_every_broker_is_told(render: Render) -> list[str]:
    """The operator's nodes do not read the shared file: its lines are repeated for them."""
    shared = settings_of((MANIFESTS / "rabbitmq" / "rabbitmq.conf").read_text(encoding="utf-8"))
    said = []
    for one in _brokers(render):
        for key, value in shared.items():
            other = OTHER_MARKS.get(key)
            if one.told.get(key) != value and (other is None or other not in one.told):
                said.append(f"{one.name}: {key} is {one.told.get(key)}, elsewhere {value}")
    return said


def grows_its_queues_over_all_nodes(render: Render) -> list[str]:
    """A queue that is declared before the last node came would never have a member on it."""
    said = []
    for cluster in render.of_kind("RabbitmqCluster"):
        nodes, told = cluster["spec"].get("replicas", 1), _operated(cluster).told
        if nodes == 1:
            continue
        if told.get(f"{_GROWTH}enabled") != "true":
            said.append(f"{label(cluster)}: its queues keep the members of their first hour")
        if told.get(f"{_GROWTH}target_group_size") != str(nodes):
            said.append(f"{label(cluster)}: its queues are to have a member on each of {nodes}")
        # RabbitMQ's default is an hour.
        if int(told.get(f"{_GROWTH}interval", _HOUR_MS)) > _SOON_MS:
            said.append(f"{label(cluster)}: a growth that failed is not tried again soon")
    return said


def has_the_plugins_of_its_ports(render: Render) -> list[str]:
    """A declared port that no plugin opens is probed, scraped and connected to in vain."""
    said = []
    for pod, config in _configured(render):
        enabled = config["data"].get("enabled_plugins", "")
        for port, plugin in PLUGINS.items():
            if any(one.port(port) for one in pod.containers) and plugin not in enabled:
                said.append(f"{label(config)}: port {port} needs {plugin}")
    return said


def settings_of(text: str) -> dict[str, str]:
    """What a configuration says, by its keys; of a key that is given twice the last one holds."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def _brokers(render: Render) -> list[Broker]:
    ours = [
        Broker(label(config), settings_of(config["data"]["rabbitmq.conf"]))
        for _, config in _configured(render)
    ]
    return ours + [_operated(one) for one in render.of_kind("RabbitmqCluster")]


def _operated(cluster: Object) -> Broker:
    text = cluster["spec"].get("rabbitmq", {}).get("additionalConfig", "")
    return Broker(label(cluster), settings_of(text))


def _configured(render: Render) -> list[tuple[Pod, Object]]:
    """The pods of a broker of ours, each with the ConfigMap that configures it."""
    return [
        (pod, config)
        for one in render.of_kind("StatefulSet")
        for pod in [Pod(one, one["spec"]["template"])]
        for volume in pod.spec.get("volumes", [])
        for source in sources(volume, "configMap")
        if (config := render.find("ConfigMap", source_name(source))) is not None
        and "rabbitmq.conf" in config["data"]
    ]
