"""Servers of operators that are asked for too little."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import SERIOUS, Mistake, in_spec
from tests.deploy.manifests.rules import clusters

MISTAKES = (
    Mistake(
        clusters.survives_the_loss_of_a_node,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.update(replicas=2)),
        "2 members",
        SERIOUS,
    ),
    Mistake(
        clusters.survives_the_loss_of_a_node,
        in_spec("MongoDBCommunity", "mongodb", lambda spec: spec.pop("members")),
        "1 members",
        SERIOUS,
    ),
    Mistake(
        clusters.survives_the_loss_of_a_node,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.pop("affinity")),
        "one node",
        SERIOUS,
    ),
    Mistake(
        clusters.survives_the_loss_of_a_node,
        lambda bench: bench.remove("PodDisruptionBudget", "rabbitmq"),
        "several",
        SERIOUS,
    ),
    Mistake(
        clusters.pins_what_operators_run,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.pop("image")),
        "rabbitmq",
        SERIOUS,
    ),
    Mistake(
        clusters.pins_what_operators_run,
        in_spec("MongoDBCommunity", "mongodb", lambda spec: spec.pop("version")),
        "mongodb",
        SERIOUS,
    ),
    Mistake(
        clusters.keeps_its_data,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.pop("persistence")),
        "stores",
        SERIOUS,
    ),
    Mistake(
        clusters.keeps_its_data,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec["resources"].pop("limits")),
        "limits",
        SERIOUS,
    ),
    Mistake(
        clusters.keeps_its_data,
        in_spec("RabbitmqCluster", "rabbitmq", lambda spec: spec.pop("resources")),
        "no resources",
        SERIOUS,
    ),
)
