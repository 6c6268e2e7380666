"""Every kustomization under deploy/ as `kubectl kustomize` renders it, each rendered once.

A component cannot stand alone. One that an overlay already lists is rendered there; every other is
composed onto the overlay it is for, in a throw-away kustomization outside the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "deploy"
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"

ONTO = "local"
"""The overlay that a component is for, if it is not named below."""
ONTO_OTHER = {"rabbitmq-operator": "production", "mongodb-operator": "production"}

Object = dict[str, Any]
"""A Kubernetes object as YAML has it."""


class RenderError(Exception):
    """kubectl refused; its own words are the message."""


@dataclass(frozen=True)
class Render:
    """What one kustomization puts into a cluster."""

    name: str
    objects: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of these kinds, in their order."""
        return [one for one in self.objects if one["kind"] in kinds]

    def find(self, kind: str, name: str) -> Object | None:
        """The object, or None."""
        return self._index.get((kind, name))

    @cached_property
    def _index(self) -> Mapping[tuple[str, str], Object]:
        return {(one["kind"], one["metadata"]["name"]): one for one in self.objects}

    @property
    def complete(self) -> bool:
        """It is meant to be applied as it is: the root, an overlay, or a component on one."""
        return self.name == "k8s" or "k8s/overlays/" in self.name


def kustomizations(root: Path = MANIFESTS) -> dict[str, Object]:
    """Every kustomization file below a folder, by the folder's path; `.` is the folder itself."""
    found = {}
    for file in sorted(root.rglob("*")):
        if file.name in {"kustomization.yaml", "kustomization.yml", "Kustomization"}:
            found[file.parent.relative_to(root).as_posix()] = read(file)
    return found


def read(file: Path) -> Object:
    """The only document of a file."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}


def is_component(kustomization: Object) -> bool:
    """It changes what others render and renders nothing alone."""
    return kustomization.get("kind") == "Component"


def planned(root: Path = MANIFESTS) -> list[str]:
    """What is rendered: every kustomization, and as `component onto overlay` each component.

    A component that its overlay lists already is rendered with it and not put there twice.
    """
    plan = []
    for folder, kustomization in kustomizations(root).items():
        if not is_component(kustomization):
            plan.append(folder)
            continue
        overlay = overlay_for(folder)
        if folder not in listed(root, overlay):
            plan.append(f"{folder} onto {overlay}")
    return plan


def listed(root: Path, overlay: str) -> set[str]:
    """The components that an overlay lists."""
    entries = kustomizations(root).get(overlay, {}).get("components", [])
    return {
        (root / overlay / entry).resolve().relative_to(root.resolve()).as_posix()
        for entry in entries
    }


def overlay_for(component: str) -> str:
    """The overlay that a component is composed onto."""
    return f"k8s/overlays/{ONTO_OTHER.get(Path(component).name, ONTO)}"


@cache
def render(name: str) -> Render:
    """One entry of the plan, rendered; raises `RenderError` with kubectl's words."""
    component, _, overlay = name.partition(" onto ")
    if not overlay:
        return Render(name, kustomize(MANIFESTS / name))
    with tempfile.TemporaryDirectory(prefix="forebay-render-") as scratch:
        folder = Path(scratch).resolve()
        (folder / "kustomization.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "kustomize.config.k8s.io/v1beta1",
                    "kind": "Kustomization",
                    "namespace": "forebay",
                    "resources": [os.path.relpath(MANIFESTS / overlay, folder)],
                    "components": [os.path.relpath(MANIFESTS / component, folder)],
                }
            ),
            encoding="utf-8",
        )
        return Render(name, kustomize(folder))


def rendered() -> Iterator[Render]:
    """The whole plan, rendered."""
    for name in planned():
        yield render(name)


def kustomize(folder: Path) -> tuple[Object, ...]:
    """What kubectl makes of a folder; a warning of today is an error of tomorrow, so it is one."""
    done = subprocess.run(
        [KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or done.stderr.strip():
        raise RenderError(f"{folder}: {done.stderr.strip()}")
    documents = yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
    return tuple(document for document in documents if document)
