"""A broker that is configured for something else."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import Mistake
from tests.deploy.manifests.rules import broker
from tests.deploy.manifests.workbench import Change


def configure(key: str, text: str) -> Change:
    """Another file of the broker's configuration."""
    return lambda bench: bench.get("ConfigMap", "rabbitmq-config")["data"].update({key: text})


MISTAKES = (
    Mistake(
        broker.waits_for_the_longest_call,
        configure("rabbitmq.conf", "consumer_timeout = 600000"),
        "600 s",
    ),
    Mistake(
        broker.waits_for_the_longest_call,
        lambda bench: bench.settings().update(FOREBAY_LLM_TIMEOUT_S="1000"),
        "2000 s",
    ),
    Mistake(
        broker.has_the_plugins_of_its_ports,
        configure("enabled_plugins", "[rabbitmq_management]."),
        "rabbitmq_prometheus",
    ),
)
