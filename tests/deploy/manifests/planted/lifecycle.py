"""Pods that come and go badly."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import SERIOUS, Mistake, in_container, in_pod, in_spec
from tests.deploy.manifests.rules import lifecycle
from tests.deploy.manifests.workbench import Workbench


def label_pods(bench: Workbench, key: str, value: str) -> None:
    """Give the ingress's selector and pods a further label."""
    spec = bench.get("Deployment", "ingress")["spec"]
    spec["selector"]["matchLabels"][key] = value
    spec["template"]["metadata"]["labels"][key] = value


def second_budget(bench: Workbench) -> None:
    """A copy of the ingress's disruption budget: with two, nothing can be evicted."""
    first = bench.get("PodDisruptionBudget", "ingress")
    bench.add({**first, "metadata": {**first["metadata"], "name": "ingress-too"}})


MISTAKES = (
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        lambda bench: bench.remove("PodDisruptionBudget", "llm-worker"),
        "llm-worker",
    ),
    Mistake(lifecycle.can_be_evicted_one_by_one, second_budget, "Deployment/ingress"),
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        in_spec("PodDisruptionBudget", "ingress", lambda spec: spec.update(maxUnavailable=0)),
        "no eviction",
    ),
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        in_spec("PodDisruptionBudget", "ingress", lambda spec: spec.update(maxUnavailable=2)),
        "at once",
    ),
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        in_spec("PodDisruptionBudget", "ingress", lambda spec: spec.update(minAvailable=2)),
        "minAvailable",
    ),
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        in_spec(
            "PodDisruptionBudget", "ingress", lambda spec: spec.pop("unhealthyPodEvictionPolicy")
        ),
        "broken pod",
    ),
    Mistake(
        lifecycle.can_be_evicted_one_by_one,
        in_spec(
            "PodDisruptionBudget",
            "ingress",
            lambda spec: spec.update(
                selector={"matchLabels": {"app.kubernetes.io/component": "ingres"}}
            ),
        ),
        "0 workloads",
    ),
    Mistake(
        lifecycle.is_spread,
        in_pod(lambda pod: pod["topologySpreadConstraints"].pop()),
        "not spread",
    ),
    Mistake(
        lifecycle.is_spread,
        in_pod(
            lambda pod: pod["topologySpreadConstraints"][0]["labelSelector"].update(
                matchLabels={"app": "x"}
            )
        ),
        "not spread",
    ),
    Mistake(
        lifecycle.is_spread,
        in_pod(
            lambda pod: pod["topologySpreadConstraints"][0].update(
                whenUnsatisfiable="DoNotSchedule"
            )
        ),
        "one node",
    ),
    Mistake(
        lifecycle.is_spread,
        in_pod(lambda pod: pod["topologySpreadConstraints"][0].pop("matchLabelKeys")),
        "other workloads",
    ),
    Mistake(
        lifecycle.leaves_its_callers_time, in_container(lambda one: one.pop("lifecycle")), "preStop"
    ),
    Mistake(
        lifecycle.leaves_its_callers_time,
        in_container(lambda one: one["lifecycle"]["preStop"]["sleep"].update(seconds=1)),
        "preStop",
    ),
    Mistake(
        lifecycle.leaves_its_callers_time,
        lambda bench: bench.set("Deployment", "ingress", "FOREBAY_INGRESS_LAME_DUCK_S", "0"),
        "LAME_DUCK",
    ),
    Mistake(
        lifecycle.replaces_pods_carefully,
        in_spec(
            "Deployment",
            "llm-worker",
            lambda spec: spec["strategy"]["rollingUpdate"].update(maxSurge=1),
        ),
        "llm-worker",
    ),
    Mistake(
        lifecycle.replaces_pods_carefully,
        in_spec("Deployment", "search-worker", lambda spec: spec.pop("strategy")),
        "search-worker",
    ),
    Mistake(
        lifecycle.replaces_pods_carefully,
        in_spec(
            "Deployment",
            "ingress",
            lambda spec: spec["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        ),
        "maxUnavailable",
    ),
    Mistake(
        lifecycle.replaces_pods_carefully,
        in_spec("Deployment", "ingress", lambda spec: spec.update(replicas=1)),
        "one ingress",
    ),
    Mistake(
        lifecycle.finishes_its_longest_call,
        lambda bench: bench.settings().update(FOREBAY_LLM_GRACE_S="299"),
        "llm-worker",
    ),
    Mistake(
        lifecycle.finishes_its_longest_call,
        lambda bench: bench.settings().update(FOREBAY_SEARCH_TIMEOUT_S="90"),
        "search-worker",
    ),
    Mistake(
        lifecycle.finishes_its_longest_call,
        lambda bench: bench.settings().pop("FOREBAY_CRAWLER_GRACE_S"),
        "crawler-worker",
    ),
    Mistake(
        lifecycle.finishes_its_longest_call,
        lambda bench: bench.settings().update(FOREBAY_WEBHOOK_GRACE_S="14"),
        "webhook-worker",
    ),
    Mistake(
        lifecycle.has_time_to_end,
        in_pod(lambda pod: pod.pop("terminationGracePeriodSeconds")),
        "ingress",
    ),
    Mistake(
        lifecycle.has_time_to_end,
        in_pod(lambda pod: pod.update(terminationGracePeriodSeconds=310), "llm-worker"),
        "llm-worker",
    ),
    Mistake(
        lifecycle.has_time_to_end,
        lambda bench: bench.settings().update(FOREBAY_CRAWLER_GRACE_S="140"),
        "crawler-worker",
    ),
    Mistake(
        lifecycle.selects_by_stable_labels,
        lambda bench: label_pods(bench, "app.kubernetes.io/version", "0.1.0"),
        "version",
    ),
    Mistake(
        lifecycle.selects_by_stable_labels,
        in_spec(
            "Deployment",
            "ingress",
            lambda spec: spec["selector"]["matchLabels"].update(
                {"app.kubernetes.io/component": "x"}
            ),
        ),
        "does not match",
    ),
    Mistake(
        lifecycle.selects_by_stable_labels,
        in_spec(
            "Deployment",
            "ingress",
            lambda spec: spec["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
        ),
        "takes the pods",
    ),
    Mistake(
        lifecycle.is_labelled,
        in_spec(
            "Deployment",
            "ingress",
            lambda spec: spec["template"]["metadata"]["labels"].pop("app.kubernetes.io/part-of"),
        ),
        "its pods",
    ),
    Mistake(
        lifecycle.is_labelled,
        lambda bench: bench.get("StatefulSet", "mongodb")["metadata"]["labels"].pop(
            "app.kubernetes.io/name"
        ),
        "mongodb",
    ),
    Mistake(
        lifecycle.jobs_end_and_go,
        in_spec("Job", "forebay-prepare", lambda spec: spec.pop("ttlSecondsAfterFinished")),
        "ttl",
    ),
    Mistake(
        lifecycle.jobs_end_and_go,
        lambda bench: bench.pod("Job", "forebay-prepare").update(restartPolicy="Always"),
        "for ever",
    ),
    Mistake(
        lifecycle.jobs_end_and_go,
        lambda bench: bench.get("Job", "forebay-prepare")["metadata"].update(
            name="forebay-prepare-v0-0-9"
        ),
        "v0-1-0",
    ),
    Mistake(
        lifecycle.leaves_replicas_to_one,
        in_spec("Deployment", "llm-worker", lambda spec: spec.update(replicas=2)),
        "llm-worker",
        SERIOUS,
    ),
    Mistake(
        lifecycle.leaves_replicas_to_one,
        in_spec(
            "HorizontalPodAutoscaler",
            "ingress",
            lambda spec: spec["scaleTargetRef"].update(name="llm-worker"),
        ),
        "is scaled by",
        SERIOUS,
    ),
    Mistake(
        lifecycle.leaves_replicas_to_one,
        in_spec(
            "HorizontalPodAutoscaler",
            "ingress",
            lambda spec: spec["scaleTargetRef"].update(name="ingres"),
        ),
        "there is no",
        SERIOUS,
    ),
)
