"""A render to change: how a test plants a mistake in a copy of the real manifests."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

from tests.deploy.manifests.rendering import Object, Render


class Workbench:
    """A deep copy of a render's objects, reached by kind and name."""

    def __init__(self, render: Render) -> None:
        self._name = render.name
        self._objects = copy.deepcopy(list(render.objects))

    def get(self, kind: str, name: str) -> Object:
        """The object; raises `LookupError`, because a mistake that is not planted shows nothing."""
        for one in self._objects:
            if one["kind"] == kind and _is_called(one, name):
                return one
        raise LookupError(f"{self._name} has no {kind} {name}")

    def pod(self, kind: str, name: str) -> Object:
        """The specification of a workload's pods."""
        found: Object = self.get(kind, name)["spec"]["template"]["spec"]
        return found

    def container(self, kind: str, name: str) -> Object:
        """The first container of a workload."""
        found: Object = self.pod(kind, name)["containers"][0]
        return found

    def settings(self) -> Object:
        """The data of our ConfigMap."""
        found: Object = self.get("ConfigMap", "forebay")["data"]
        return found

    def set(self, kind: str, name: str, variable: str, value: str) -> None:
        """Give a workload's first container a variable of its own."""
        env = self.container(kind, name).setdefault("env", [])
        env[:] = [one for one in env if one["name"] != variable]
        env.append({"name": variable, "value": value})

    def remove(self, kind: str, name: str) -> None:
        """Leave an object out."""
        self._objects.remove(self.get(kind, name))

    def add(self, one: Object) -> None:
        """Bring a further object."""
        self._objects.append(one)

    def done(self) -> Render:
        """The changed copy."""
        return Render(self._name, tuple(self._objects))


Change = Callable[[Workbench], object]


def changed(render: Render, change: Change) -> Render:
    """The render with a change."""
    bench = Workbench(render)
    change(bench)
    return bench.done()


def _is_called(one: Object, name: str) -> bool:
    """A generated ConfigMap, and a Job, have a suffix that changes: a hash, or the version."""
    real = one["metadata"]["name"]
    suffix = {"ConfigMap": r"-[a-z0-9]{10}", "Job": r"-v[0-9-]+"}.get(one["kind"], "")
    return re.fullmatch(re.escape(name) + f"({suffix})?", real) is not None
