"""The parts of Kubernetes objects that the rules look at, under short names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.deploy.manifests.rendering import Object, Render

LONG_LIVED = ("Deployment", "StatefulSet", "DaemonSet")
TEMPLATED = (*LONG_LIVED, "Job", "CronJob")
COMPONENT = "app.kubernetes.io/component"


def label(one: Object) -> str:
    """`Kind/name`: how violations name an object."""
    return f"{one['kind']}/{one['metadata']['name']}"


def labels_of(one: Object) -> Mapping[str, str]:
    """An object's own labels."""
    return one["metadata"].get("labels") or {}


@dataclass(frozen=True)
class Container:
    """A container in its pod."""

    pod: Pod
    spec: Object
    init: bool

    @property
    def name(self) -> str:
        """How violations name it."""
        return f"{self.pod.name}, container {self.spec['name']}"

    @property
    def long_lived(self) -> bool:
        """It is to run as long as its pod, which is to run for ever."""
        sidecar = self.spec.get("restartPolicy") == "Always"
        return self.pod.owner["kind"] in LONG_LIVED and (not self.init or sidecar)

    @property
    def image(self) -> str:
        """The image with its tag."""
        return self.spec.get("image", "")

    @property
    def ours(self) -> bool:
        """It runs this project's image, whatever registry it comes from."""
        name = self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return name.startswith("forebay")

    @property
    def words(self) -> list[str]:
        """The command line."""
        return [*self.spec.get("command", []), *self.spec.get("args", [])]

    @property
    def module(self) -> str | None:
        """The module that `python -m` runs."""
        words = self.words
        return words[words.index("-m") + 1] if "-m" in words[:-1] else None

    def port(self, wanted: int | str) -> int | None:
        """The number of a declared port, by name or number; None when it is not declared."""
        for port in self.spec.get("ports", []):
            if wanted in (port.get("name"), port["containerPort"]):
                return int(port["containerPort"])
        return None

    def security(self, name: str) -> Any:
        """A setting of the security context in force: the container's, else the pod's."""
        own = self.spec.get("securityContext", {}).get(name)
        return own if own is not None else self.pod.spec.get("securityContext", {}).get(name)


@dataclass(frozen=True)
class Pod:
    """A pod template and who makes pods of it."""

    owner: Object
    template: Object

    @property
    def name(self) -> str:
        """How violations name it."""
        return label(self.owner)

    @property
    def spec(self) -> Object:
        """The pod's specification."""
        return self.template["spec"]

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the pods."""
        return self.template.get("metadata", {}).get("labels") or {}

    @property
    def component(self) -> str:
        """Which part of the system its pods are."""
        return self.labels.get(COMPONENT, "")

    @property
    def containers(self) -> list[Container]:
        """All of them, those of the start included."""
        return [
            Container(self, spec, init=key == "initContainers")
            for key in ("initContainers", "containers")
            for spec in self.spec.get(key, [])
        ]


def pods(render: Render) -> Iterator[Pod]:
    """Every pod template of the built-in kinds."""
    for one in render.of_kind(*TEMPLATED):
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
        yield Pod(one, spec["template"])


def containers(render: Render) -> Iterator[Container]:
    """Every container of every pod template."""
    for pod in pods(render):
        yield from pod.containers


def long_lived(render: Render) -> Iterator[Pod]:
    """The pods that are to run for ever."""
    return (pod for pod in pods(render) if pod.owner["kind"] in LONG_LIVED)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all, none at all matches nothing."""
    if selector is None:
        return False
    exact = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in exact.items()):
        return False
    return all(_expression(one, labels) for one in selector.get("matchExpressions") or [])


def _expression(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(one["key"])
    match one["operator"]:
        case "In":
            return value in one["values"]
        case "NotIn":
            return value not in one["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no such operator: {one['operator']}")


def environment(render: Render, container: Container) -> dict[str, str]:
    """The variables a container gets as plain text; what comes from elsewhere is left out."""
    found: dict[str, str] = {}
    for source in container.spec.get("envFrom", []):
        prefix = source.get("prefix", "")
        reference = source.get("configMapRef")
        settings = render.find("ConfigMap", reference["name"]) if reference else None
        for key, value in ((settings or {}).get("data") or {}).items():
            found[f"{prefix}{key}"] = value
    for variable in container.spec.get("env", []):
        if "valueFrom" not in variable:
            found[variable["name"]] = variable.get("value", "")
    return found


def in_force(render: Render, container: Container, name: str, default: str) -> str:
    """A variable's value; empty counts as not set."""
    return environment(render, container).get(name) or default


def volumes(container: Container) -> dict[str, Object]:
    """What is mounted where in a container: the volume by its path."""
    by_name = {one["name"]: one for one in container.pod.spec.get("volumes", [])}
    for claim in container.pod.owner["spec"].get("volumeClaimTemplates", []):
        by_name[claim["metadata"]["name"]] = {
            "name": claim["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
        }
    return {
        mount["mountPath"].rstrip("/") or "/": by_name.get(mount["name"], {})
        for mount in container.spec.get("volumeMounts", [])
    }


def sources(volume: Object, kind: str) -> list[Object]:
    """The `secret` or `configMap` sources of a volume, projected ones included."""
    found = [volume[kind]] if kind in volume else []
    found += [one[kind] for one in volume.get("projected", {}).get("sources", []) if kind in one]
    return found


def source_name(source: Object) -> str:
    """A `secret` volume says secretName, everything else says name."""
    return source.get("secretName") or source.get("name") or ""
