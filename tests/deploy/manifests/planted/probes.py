"""Pods that are watched badly."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import Mistake, in_container
from tests.deploy.manifests.rules import probes

MISTAKES = (
    Mistake(
        probes.has_all_three_probes,
        in_container(lambda one: one.pop("startupProbe")),
        "startupProbe",
    ),
    Mistake(
        probes.has_all_three_probes,
        in_container(lambda one: one.pop("livenessProbe"), "reconciler"),
        "reconciler",
    ),
    Mistake(
        probes.has_all_three_probes,
        lambda bench: bench.container("StatefulSet", "rabbitmq").pop("readinessProbe"),
        "rabbitmq",
    ),
    Mistake(
        probes.restarts_for_its_own_fault_only,
        in_container(lambda one: one["livenessProbe"]["httpGet"].update(path="/readyz")),
        "livenessProbe",
    ),
    Mistake(
        probes.restarts_for_its_own_fault_only,
        in_container(
            lambda one: one["startupProbe"]["httpGet"].update(path="/readyz"), "llm-worker"
        ),
        "llm-worker",
    ),
    Mistake(
        probes.restarts_for_its_own_fault_only,
        in_container(
            lambda one: one["readinessProbe"]["httpGet"].update(path="/livez"), "llm-worker"
        ),
        "readinessProbe",
    ),
    Mistake(
        probes.probes_a_port_it_has,
        in_container(lambda one: one["livenessProbe"]["httpGet"].update(port="probes")),
        "probes",
    ),
    Mistake(
        probes.probes_a_port_it_has,
        in_container(lambda one: one["livenessProbe"]["httpGet"].update(port=8081)),
        "8081",
    ),
    Mistake(
        probes.is_given_time,
        in_container(lambda one: one["startupProbe"].update(failureThreshold=5)),
        "to start",
    ),
    Mistake(
        probes.is_given_time,
        in_container(lambda one: one["livenessProbe"].update(failureThreshold=1)),
        "slow answers",
    ),
    Mistake(
        probes.is_given_time,
        in_container(lambda one: one["livenessProbe"].pop("timeoutSeconds")),
        "slow answers",
    ),
    Mistake(
        probes.is_given_time,
        in_container(lambda one: one["readinessProbe"].update(timeoutSeconds=30)),
        "longer than its period",
    ),
)
