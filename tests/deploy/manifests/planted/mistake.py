"""What a planted mistake is, and short words for planting one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.deploy.manifests.rendering import Object
from tests.deploy.manifests.rules.every import Rule
from tests.deploy.manifests.workbench import Change

TRY_OUT, SERIOUS = "k8s/overlays/local", "k8s/overlays/production"


class Mistake(NamedTuple):
    """A change that a rule must see, and what it then has to name."""

    rule: Rule
    change: Change
    words: str
    render: str = TRY_OUT


def in_container(do: Callable[[Object], object], name: str = "ingress") -> Change:
    """A change of the first container of a Deployment."""
    return lambda bench: do(bench.container("Deployment", name))


def in_pod(do: Callable[[Object], object], name: str = "ingress") -> Change:
    """A change of the pods of a Deployment."""
    return lambda bench: do(bench.pod("Deployment", name))


def in_spec(kind: str, name: str, do: Callable[[Object], object]) -> Change:
    """A change of an object's specification."""
    return lambda bench: do(bench.get(kind, name)["spec"])


def in_secured(do: Callable[[Object], object], name: str = "ingress") -> Change:
    """A change of the first container's security context."""
    return in_container(lambda one: do(one["securityContext"]), name)


def volume(pod: Object, name: str) -> Object:
    """A volume of a pod."""
    (found,) = (one for one in pod["volumes"] if one["name"] == name)
    return found
