"""Everything that is rendered, against the schemas of every supported Kubernetes, strictly."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.deploy.manifests.crds import strict, unknown_fields
from tests.deploy.manifests.objects import label
from tests.deploy.manifests.rendering import Object, render, rendered
from tests.deploy.manifests.schemas import is_custom, problems, versions
from tests.deploy.manifests.workbench import Change, changed

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports


@cache
def everything() -> tuple[Object, ...]:
    """Every object of every render, equal ones once."""
    distinct = {json.dumps(one, sort_keys=True): one for each in rendered() for one in each.objects}
    return tuple(distinct.values())


@pytest.mark.parametrize("version", versions())
def test_every_object_is_valid(version: str) -> None:
    assert len(everything()) > 50
    assert not [problem for one in everything() for problem in problems(one, version)]


def test_the_versions_go_from_the_oldest_supported_to_the_newest_known() -> None:
    assert versions()[0].startswith("1.30.")
    assert len(versions()) >= 8


def test_every_kind_of_our_own_schemas_is_rendered() -> None:
    rendered_kinds = {one["kind"] for one in everything() if is_custom(one)}
    assert {"ScaledObject", "TriggerAuthentication", "RabbitmqCluster", "MongoDBCommunity"} <= (
        rendered_kinds
    )


PLANTED: dict[str, tuple[str, Change, str]] = {
    "a misspelled field of a pod": (
        "Deployment/ingress",
        lambda bench: bench.pod("Deployment", "ingress").update(terminationGracePeriod=3),
        "terminationGracePeriod",
    ),
    "text for a number": (
        "Deployment/ingress",
        lambda bench: bench.get("Deployment", "ingress")["spec"].update(replicas="two"),
        "'two'",
    ),
    "a value that was forgotten": (
        "Deployment/ingress",
        lambda bench: bench.container("Deployment", "ingress").update(env=None),
        "env is null",
    ),
    "a kind that nobody knows": (
        "Gateway/ingress",
        lambda bench: bench.get("Deployment", "ingress").update(kind="Gateway"),
        "no schema",
    ),
    "a misspelled field of a ScaledObject": (
        "ScaledObject/llm-worker",
        lambda bench: bench.get("ScaledObject", "llm-worker")["spec"].update(maxReplicas=3),
        "maxReplicas",
    ),
    "a setting of a trigger that KEDA does not have": (
        "ScaledObject/llm-worker",
        lambda bench: bench.get("ScaledObject", "llm-worker")["spec"]["triggers"][0][
            "metadata"
        ].update(queue="forebay.llm.bulk"),
        "'queue' was unexpected",
    ),
    "a number where KEDA reads text": (
        "ScaledObject/llm-worker",
        lambda bench: bench.get("ScaledObject", "llm-worker")["spec"]["triggers"][0][
            "metadata"
        ].update(value=60),
        "60 is not of type 'string'",
    ),
    "resources of a cluster in the wrong place": (
        "RabbitmqCluster/rabbitmq",
        lambda bench: bench.get("RabbitmqCluster", "rabbitmq")["spec"].update(limits={}),
        "limits",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("version", [versions()[0], versions()[-1]])
def test_a_mistake_is_found(name: str, version: str) -> None:
    where, change, words = PLANTED[name]
    broken = changed(render("k8s/overlays/production"), change)
    (one,) = (one for one in broken.objects if label(one) == where)
    said = problems(one, version)
    assert len(said) == 1
    assert where in said[0]
    assert words in said[0]


def test_an_operators_definition_is_made_strict() -> None:
    theirs: dict[str, Any] = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "format": "int32", "description": "How many."},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
    }
    ours: dict[str, Any] = {
        "properties": {"size": {}, "sise": {}, "free": {"properties": {"any": {}}}}
    }
    made = strict(theirs, root=True)["properties"]["spec"]
    assert made["properties"]["size"] == {"type": "integer"}
    assert list(unknown_fields(ours, made)) == ["$.sise"]
