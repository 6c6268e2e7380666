"""The try-out's RabbitMQ and what the processes and probes expect of it."""

from __future__ import annotations

import re

from tests.deploy.manifests.known_settings import WORKERS, in_container, worker_group
from tests.deploy.manifests.objects import Pod, containers, label, source_name, sources
from tests.deploy.manifests.rendering import Object, Render

PLUGINS = {15672: "rabbitmq_management", 15692: "rabbitmq_prometheus"}
"""Which plugin listens on a port."""
_CONSUMER_TIMEOUT = re.compile(r"(?m)^\s*consumer_timeout\s*=\s*(\d+)\s*$")


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
    return [
        f"{label(config)}: consumer_timeout is {text} ms, a message may need {2 * longest:g} s"
        for _, config in _configured(render)
        for text in _CONSUMER_TIMEOUT.findall("\n".join(config["data"].values()))
        if int(text) / 1000 <= 2 * longest
    ]


def has_the_plugins_of_its_ports(render: Render) -> list[str]:
    """A declared port that no plugin opens is probed, scraped and connected to in vain."""
    said = []
    for pod, config in _configured(render):
        enabled = config["data"].get("enabled_plugins", "")
        for port, plugin in PLUGINS.items():
            if any(one.port(port) for one in pod.containers) and plugin not in enabled:
                said.append(f"{label(config)}: port {port} needs {plugin}")
    return said


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
