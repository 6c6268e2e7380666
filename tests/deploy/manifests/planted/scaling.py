"""ScaledObjects that do not fit queues, settings or quotas."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import SERIOUS, Mistake, in_spec
from tests.deploy.manifests.rules import scaling
from tests.deploy.manifests.workbench import Change, Workbench


def in_trigger(key: str, value: str) -> Change:
    """Another setting of the LLM workers' first trigger."""
    return lambda bench: bench.get("ScaledObject", "llm-worker")["spec"]["triggers"][0][
        "metadata"
    ].update({key: value})


def autoscale_a_worker(bench: Workbench) -> None:
    """A HorizontalPodAutoscaler beside KEDA's own."""
    bench.get("HorizontalPodAutoscaler", "ingress")["spec"]["scaleTargetRef"]["name"] = "llm-worker"


MISTAKES = (
    Mistake(
        scaling.scales_workers_by_their_queues,
        in_trigger("queueName", "forebay.llm.urgent"),
        "forebay.llm.urgent",
        SERIOUS,
    ),
    Mistake(
        scaling.scales_workers_by_their_queues,
        in_trigger("queueName", "forebay.search.bulk"),
        "forebay.search.bulk",
        SERIOUS,
    ),
    Mistake(
        scaling.scales_workers_by_their_queues,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec["triggers"].pop()),
        "llm-worker",
        SERIOUS,
    ),
    Mistake(
        scaling.scales_workers_by_their_queues,
        in_spec("ScaledObject", "webhook-worker", lambda spec: spec["triggers"].pop(0)),
        "webhook-worker",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        lambda bench: bench.settings().update(FOREBAY_WEBHOOK_CONCURRENCY="101"),
        "webhook-worker",
        SERIOUS,
    ),
    Mistake(
        scaling.scales_workers_by_their_queues,
        in_spec(
            "ScaledObject", "llm-worker", lambda spec: spec["scaleTargetRef"].update(name="ingress")
        ),
        "nothing that takes jobs",
        SERIOUS,
    ),
    Mistake(scaling.asks_rabbitmq_over_http, in_trigger("protocol", "amqp"), "protocol", SERIOUS),
    Mistake(scaling.asks_rabbitmq_over_http, in_trigger("mode", "MessageRate"), "mode", SERIOUS),
    Mistake(scaling.asks_rabbitmq_over_http, in_trigger("vhostName", "/"), "vhostName", SERIOUS),
    Mistake(
        scaling.asks_rabbitmq_over_http,
        in_trigger("host", "http://rabbitmq:15672"),
        "login",
        SERIOUS,
    ),
    Mistake(
        scaling.asks_rabbitmq_over_http,
        in_spec(
            "ScaledObject",
            "llm-worker",
            lambda spec: spec["triggers"][0].update(metricType="Value"),
        ),
        "AverageValue",
        SERIOUS,
    ),
    Mistake(
        scaling.asks_rabbitmq_over_http,
        lambda bench: bench.remove("TriggerAuthentication", "rabbitmq"),
        "TriggerAuthentication",
        SERIOUS,
    ),
    Mistake(
        scaling.asks_rabbitmq_over_http,
        in_spec(
            "TriggerAuthentication",
            "rabbitmq",
            lambda spec: spec["secretTargetRef"][0].update(key="url"),
        ),
        "nobody makes",
        SERIOUS,
    ),
    Mistake(
        scaling.asks_for_no_replica_for_what_it_holds,
        in_trigger("value", "23"),
        "one holds 24",
        SERIOUS,
    ),
    Mistake(
        scaling.asks_for_no_replica_for_what_it_holds,
        lambda bench: bench.settings().update(FOREBAY_LLM_CONCURRENCY="100"),
        "one holds 120",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec.update(maxReplicaCount=5)),
        "200 calls",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec.pop("maxReplicaCount")),
        "4000 calls",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        lambda bench: bench.settings().update(FOREBAY_LLM_CONCURRENCY="21"),
        "168 calls",
        SERIOUS,
    ),
    Mistake(
        # All replicas and one more: not a whole generation that ends.
        scaling.stays_within_the_providers_quota,
        lambda bench: bench.get("ScaledObject", "llm-worker")["metadata"]["annotations"].update(
            {scaling.QUOTA: "100"}
        ),
        "160 calls",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        lambda bench: bench.get("ScaledObject", "llm-worker")["metadata"].pop("annotations"),
        scaling.QUOTA,
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec.update(minReplicaCount=0)),
        "between 0",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec.pop("fallback")),
        "does not answer",
        SERIOUS,
    ),
    Mistake(
        scaling.stays_within_the_providers_quota,
        in_spec("ScaledObject", "llm-worker", lambda spec: spec["fallback"].pop("behavior")),
        "scales down",
        SERIOUS,
    ),
    Mistake(
        scaling.scales_every_worker_or_none,
        lambda bench: bench.remove("ScaledObject", "webhook-worker"),
        "no ScaledObject for webhook",
        SERIOUS,
    ),
    Mistake(scaling.leaves_the_workers_to_keda, autoscale_a_worker, "llm-worker", SERIOUS),
)
