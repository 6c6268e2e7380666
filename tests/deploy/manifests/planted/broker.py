"""A broker that is configured for something else."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import SERIOUS, Mistake, in_spec
from tests.deploy.manifests.rules import broker
from tests.deploy.manifests.workbench import Change, Workbench


def configure(key: str, text: str) -> Change:
    """Another file of the broker's configuration."""
    return lambda bench: bench.get("ConfigMap", "rabbitmq-config")["data"].update({key: text})


def tell_the_operator(old: str, new: str) -> Change:
    """Another line in the configuration of the operator's nodes."""

    def change(bench: Workbench) -> None:
        properties = bench.get("RabbitmqCluster", "rabbitmq")["spec"]["rabbitmq"]
        before = properties["additionalConfig"]
        properties["additionalConfig"] = before.replace(old, new)
        if properties["additionalConfig"] == before:
            raise LookupError(f"nothing says {old}")

    return change


GROWTH = "quorum_queue.continuous_membership_reconciliation"

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
    Mistake(
        broker.waits_for_the_longest_call,
        configure("rabbitmq.conf", "# nothing"),
        "no consumer_timeout",
    ),
    Mistake(
        broker.waits_for_the_longest_call,
        tell_the_operator("consumer_timeout = 1800000", "consumer_timeout = 600000"),
        "600 s",
        SERIOUS,
    ),
    Mistake(
        broker.waits_for_the_longest_call,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.pop("rabbitmq")),
        "no consumer_timeout",
        SERIOUS,
    ),
    Mistake(
        broker.is_told_what_every_broker_is_told,
        tell_the_operator("raft.wal_max_size_bytes = 67108864", ""),
        "raft.wal_max_size_bytes is None",
        SERIOUS,
    ),
    Mistake(
        broker.is_told_what_every_broker_is_told,
        tell_the_operator("log.console.formatter = json", "log.console.formatter = plaintext"),
        "log.console.formatter is plaintext",
        SERIOUS,
    ),
    Mistake(
        broker.is_told_what_every_broker_is_told,
        tell_the_operator("vm_memory_high_watermark.relative = 0.6", ""),
        "vm_memory_high_watermark.absolute is None",
        SERIOUS,
    ),
    Mistake(
        broker.grows_its_queues_over_all_nodes,
        tell_the_operator(f"{GROWTH}.enabled = true", ""),
        "first hour",
        SERIOUS,
    ),
    Mistake(
        broker.grows_its_queues_over_all_nodes,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.update(replicas=5)),
        "each of 5",
        SERIOUS,
    ),
    Mistake(
        broker.grows_its_queues_over_all_nodes,
        tell_the_operator(f"{GROWTH}.interval = 60000", ""),
        "again soon",
        SERIOUS,
    ),
)
