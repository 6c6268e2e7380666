"""The environment of a container, in Kubernetes' order: service links, envFrom, env.

Later wins. `$(NAME)` in values, command and arguments is replaced by what is known by then, and
`$$(NAME)` is the way to write it literally; an unknown name is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .objects import Manifest, NotEmulated, Objects

_REFERENCE = re.compile(r"\$(\$\(|\(([A-Za-z0-9_.-]+)\))")


class MissingReference(Exception):
    """A ConfigMap, a Secret or a key is not there yet; kubelet waits for it."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a pod can be told about itself."""

    name: str
    namespace: str
    uid: str
    ip: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service_account: str
    host_ip: str


def expand(text: str, known: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$(":
            return "$("
        return known.get(found[2], found[0])

    return _REFERENCE.sub(value, text)


def environment(
    container: Manifest, objects: Objects, facts: PodFacts, links: Mapping[str, str]
) -> dict[str, str]:
    """All variables of the container. Raises `MissingReference`, `NotEmulated`."""
    found = dict(links)
    for source in container.get("envFrom", []):
        found.update(_all_of(source, objects))
    for entry in container.get("env", []):
        if "valueFrom" in entry:
            value = _from(entry["valueFrom"], objects, facts, container)
        else:
            value = expand(entry.get("value", ""), found)
        if value is not None:
            found[entry["name"]] = value
    return found


def service_links(objects: Objects, addresses: Mapping[str, str]) -> dict[str, str]:
    """The variables every pod gets for each Service, unless `enableServiceLinks` is false."""
    found: dict[str, str] = {}
    for service in objects.of("Service"):
        name = service["metadata"]["name"]
        if name not in addresses:
            continue  # headless: no address, no variables
        found.update(_links_of(service, addresses[name]))
    return found


def _links_of(service: Manifest, address: str) -> dict[str, str]:
    prefix = service["metadata"]["name"].upper().replace("-", "_")
    ports = service["spec"]["ports"]
    first = ports[0]["port"]
    found = {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(first),
        f"{prefix}_PORT": f"tcp://{address}:{first}",
    }
    for port in ports:
        if "name" in port:
            its = port["name"].upper().replace("-", "_")
            found[f"{prefix}_SERVICE_PORT_{its}"] = str(port["port"])
        key, number = f"{prefix}_PORT_{port['port']}_TCP", port["port"]
        found[key] = f"tcp://{address}:{number}"
        found[f"{key}_PROTO"], found[f"{key}_PORT"] = "tcp", str(number)
        found[f"{key}_ADDR"] = address
    return found


def _all_of(source: Manifest, objects: Objects) -> dict[str, str]:
    kind, reference = (
        ("ConfigMap", source["configMapRef"])
        if "configMapRef" in source
        else ("Secret", source["secretRef"])
    )
    keys = objects.keys(kind, reference["name"])
    if keys is None:
        if reference.get("optional"):
            return {}
        raise MissingReference(f"{kind} {reference['name']}")
    prefix = source.get("prefix", "")
    return {f"{prefix}{key}": value.decode() for key, value in keys.items()}


def _from(source: Manifest, objects: Objects, facts: PodFacts, container: Manifest) -> str | None:
    (how, what), *_ = source.items()
    match how:
        case "configMapKeyRef":
            return _key("ConfigMap", what, objects)
        case "secretKeyRef":
            return _key("Secret", what, objects)
        case "fieldRef":
            return field_value(what["fieldPath"], facts)
        case "resourceFieldRef":
            return _resource(what, container)
        case _:
            raise NotEmulated(f"valueFrom {how}")


def _key(kind: str, reference: Manifest, objects: Objects) -> str | None:
    keys = objects.keys(kind, reference["name"])
    if keys is None or reference["key"] not in keys:
        if reference.get("optional"):
            return None
        raise MissingReference(f"{kind} {reference['name']}/{reference['key']}")
    return keys[reference["key"]].decode()


def field_value(path: str, facts: PodFacts) -> str:
    """What a fieldPath says about the pod. Raises `NotEmulated` for one that is not known here."""
    of_map = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if of_map:
        values = facts.labels if of_map[1] == "labels" else facts.annotations
        return values.get(of_map[2], "")
    known: dict[str, str] = {
        "metadata.name": facts.name,
        "metadata.namespace": facts.namespace,
        "metadata.uid": facts.uid,
        "status.podIP": facts.ip,
        "status.podIPs": facts.ip,
        "status.hostIP": facts.host_ip,
        "spec.nodeName": "node",
        "spec.serviceAccountName": facts.service_account,
    }
    if path not in known:
        raise NotEmulated(f"fieldPath {path}")
    return known[path]


def _resource(what: Manifest, container: Manifest) -> str:
    side, _, name = what["resource"].partition(".")
    value: Any = container["resources"][side][name]
    if what.get("divisor", "1") not in {"1", 1, "0", 0}:
        raise NotEmulated("resourceFieldRef with a divisor")
    return str(quantity(str(value)))


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9}


def quantity(text: str) -> int:
    """A Kubernetes quantity of bytes as a number."""
    for unit, size in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    return int(float(text))
