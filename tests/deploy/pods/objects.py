"""The rendered objects of an overlay, and what the API server would fill in.

Only what is run here is read. A field that would change how a pod runs and is not emulated raises
`NotEmulated`: a test must not pass because something was passed over.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

CLUSTER_SCOPED = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
NOT_RUN = {
    "Namespace",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ResourceQuota",
    "LimitRange",
    "PriorityClass",
    "StorageClass",
}
"""Kinds that start nothing; tests/deploy/manifests judges them."""
RUN = {
    "ConfigMap",
    "Deployment",
    "Job",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
}


class NotEmulated(Exception):
    """The manifest asks for something that these tests do not do."""


class Objects:
    """Objects of one namespace by kind and name, as the API server would hold them."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._found: dict[tuple[str, str], Manifest] = {}
        self.namespace = "default"
        for manifest in manifests:
            self.put(manifest)

    def put(self, manifest: Manifest) -> None:
        """Hold an object; one of the same kind and name is replaced."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind not in RUN | NOT_RUN:
            raise NotEmulated(f"kind {kind} ({metadata['name']})")
        if kind not in CLUSTER_SCOPED and "namespace" in metadata:
            self.namespace = metadata["namespace"]
        if kind == "Secret":
            manifest = _with_data(manifest)
        self._found[kind, metadata["name"]] = manifest

    def get(self, kind: str, name: str) -> Manifest | None:
        """The object, or None."""
        return self._found.get((kind, name))

    def of(self, kind: str) -> list[Manifest]:
        """All objects of a kind, in the order of the rendering."""
        return [found for (its, _), found in self._found.items() if its == kind]

    def keys(self, kind: str, name: str) -> dict[str, bytes] | None:
        """The content of a ConfigMap or Secret by key, or None if it is not there."""
        found = self.get(kind, name)
        if found is None:
            return None
        if kind == "Secret":
            return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
        text = {key: value.encode() for key, value in found.get("data", {}).items()}
        binary = found.get("binaryData", {}).items()
        return text | {key: base64.b64decode(value) for key, value in binary}


def _with_data(secret: Manifest) -> Manifest:
    text = secret.get("stringData", {})
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
    kept = {key: value for key, value in secret.items() if key != "stringData"}
    return {**kept, "data": {**secret.get("data", {}), **encoded}}


def render(directory: Path, kubectl: Path) -> list[Manifest]:
    """What `kubectl apply -k` of the directory would send; raises with kubectl's words."""
    done = subprocess.run(
        [kubectl, "kustomize", directory], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a label selector (equality only) takes these labels. An empty one takes nothing."""
    return bool(selector) and selector.items() <= labels.items()


def only(known: Iterable[str], given: Manifest, where: str) -> None:
    """Raise `NotEmulated` for a field that nobody here looks at."""
    unknown = set(given) - set(known)
    if unknown:
        raise NotEmulated(f"{where}: {', '.join(sorted(unknown))}")


def pods_of(manifests: Objects) -> Iterator[tuple[Manifest, Manifest]]:
    """Each workload with its pod template."""
    for kind in ("Job", "StatefulSet", "Deployment"):
        for workload in manifests.of(kind):
            yield workload, workload["spec"]["template"]
