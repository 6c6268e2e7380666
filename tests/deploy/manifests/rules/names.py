"""Names and labels that the API server takes; the schemas say only that they are text."""

from __future__ import annotations

import re
from collections import Counter

from tests.deploy.manifests.objects import containers, label, labels_of, pods
from tests.deploy.manifests.rendering import Render

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PORT = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def has_names_that_are_taken(render: Render) -> list[str]:
    """Names fit into the DNS, the names of ports into 15 characters, label values into 63."""
    said = []
    for one in render.objects:
        names = [one["metadata"]["name"]]
        said += [f"{label(one)}: {name!r} is no name" for name in names if not NAME.fullmatch(name)]
        said += [
            f"{label(one)}: the label {key} cannot be {value!r}"
            for key, value in labels_of(one).items()
            if not VALUE.fullmatch(value)
        ]
    for container in containers(render):
        for port in container.spec.get("ports", []):
            name = port.get("name", "")
            if not PORT.fullmatch(name) or len(name) > 15:
                said.append(f"{container.name}: {name!r} is no name of a port")
    return said


def names_everything_once(render: Render) -> list[str]:
    """The later of two objects, containers or variables of one name wins, and nobody sees it."""
    counts = Counter((one["apiVersion"], label(one)) for one in render.objects)
    said = [f"{name}: is there {count} times" for (_, name), count in counts.items() if count > 1]
    for pod in pods(render):
        names = Counter(one.spec["name"] for one in pod.containers)
        said += [f"{pod.name}: two containers {name}" for name, count in names.items() if count > 1]
        for one in pod.containers:
            env = Counter(variable["name"] for variable in one.spec.get("env", []))
            said += [f"{one.name}: {name} is set twice" for name, n in env.items() if n > 1]
    return said
