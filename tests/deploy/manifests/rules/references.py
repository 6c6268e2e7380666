"""What names something else: it is there, and it is what was meant."""

from __future__ import annotations

from collections.abc import Iterator

from tests.deploy.manifests.made_secrets import keys_of_made_secrets, made_secrets
from tests.deploy.manifests.objects import (
    Pod,
    containers,
    environment,
    label,
    pods,
    selects,
    source_name,
    sources,
)
from tests.deploy.manifests.rendering import Object, Render

WRITTEN = {
    "rabbitmq": ["/var/lib/rabbitmq"],
    "mongodb": ["/data/db", "/tmp"],
}
"""Where other people's images write; their root is read-only here."""


def finds_its_settings(render: Render) -> list[str]:
    """Every ConfigMap that a pod names is rendered, with the keys it takes."""
    said = []
    for who, source in _config_maps(render):
        found = render.find("ConfigMap", source_name(source))
        if found is None:
            if not source.get("optional"):
                said.append(f"{who}: there is no ConfigMap {source_name(source)}")
            continue
        keys = {*(found.get("data") or {}), *(found.get("binaryData") or {})}
        wanted = {item["key"] for item in source.get("items", [])} | {
            *filter(None, [source.get("key")])
        }
        said += [f"{who}: {label(found)} has no key {key}" for key in sorted(wanted - keys)]
    return said


def _config_maps(render: Render) -> Iterator[tuple[str, Object]]:
    for one in containers(render):
        for entry in one.spec.get("envFrom", []):
            if "configMapRef" in entry:
                yield one.name, entry["configMapRef"]
        for entry in one.spec.get("env", []):
            if "configMapKeyRef" in entry.get("valueFrom", {}):
                yield one.name, entry["valueFrom"]["configMapKeyRef"]
    for pod in pods(render):
        for volume in pod.spec.get("volumes", []):
            yield from ((pod.name, source) for source in sources(volume, "configMap"))


def finds_its_secrets(render: Render) -> list[str]:
    """Every Secret is one that `forebay k8s init-secrets` makes, or the user's and optional."""
    made = keys_of_made_secrets()
    said = []
    for pod in pods(render):
        for volume in pod.spec.get("volumes", []):
            for source in sources(volume, "secret"):
                said += _missing(pod, source, made)
    return said


def _missing(pod: Pod, source: Object, made: dict[str, set[str]]) -> list[str]:
    name = source_name(source)
    if name not in made:
        return [] if source.get("optional") else [f"{pod.name}: nobody makes the Secret {name}"]
    if source.get("optional"):
        return [f"{pod.name}: could start without the Secret {name}"]
    items = source.get("items") or []
    wanted = {item["key"] for item in items}
    return [
        f"{pod.name}: the Secret {name} has no key {key}" for key in sorted(wanted - made[name])
    ]


def finds_its_account(render: Render) -> list[str]:
    """A service account that is named is rendered beside the pod."""
    return [
        f"{pod.name}: there is no ServiceAccount {name}"
        for pod in pods(render)
        if (name := pod.spec.get("serviceAccountName", "default")) != "default"
        and render.find("ServiceAccount", name) is None
    ]


def mounts_what_it_has(render: Render) -> list[str]:
    """A mount names a volume of its pod, and nobody has a volume that no container mounts."""
    said = []
    for pod in pods(render):
        have = {one["name"] for one in pod.spec.get("volumes", [])}
        have |= {
            one["metadata"]["name"] for one in pod.owner["spec"].get("volumeClaimTemplates", [])
        }
        used = {
            mount["name"] for one in pod.containers for mount in one.spec.get("volumeMounts", [])
        }
        said += [f"{pod.name}: mounts {name}, which is no volume" for name in sorted(used - have)]
        said += [f"{pod.name}: nobody mounts {name}" for name in sorted(have - used)]
    return said


def keeps_what_it_writes(render: Render) -> list[str]:
    """A server has a volume wherever it writes, and a lasting one for its data."""
    said = []
    for pod in pods(render):
        if pod.owner["kind"] != "StatefulSet":
            continue
        for one in pod.containers:
            mounts = {mount["mountPath"].rstrip("/") for mount in one.spec.get("volumeMounts", [])}
            missing = [] if one.init else set(WRITTEN.get(pod.component, [])) - mounts
            said += [f"{one.name}: has no volume at {path}" for path in sorted(missing)]
        if not pod.owner["spec"].get("volumeClaimTemplates"):
            said.append(f"{pod.name}: forgets its data with its pod")
    return said


def services_reach_pods(render: Render) -> list[str]:
    """Every Service selects pods of one workload and points at ports that they have."""
    said = []
    for service in render.of_kind("Service"):
        selector = service["spec"].get("selector")
        if not selector:
            continue
        chosen = [pod for pod in pods(render) if selects({"matchLabels": selector}, pod.labels)]
        if len(chosen) != 1 and not _made_by_an_operator(render, service["metadata"]["name"]):
            said.append(f"{label(service)}: selects the pods of {[pod.name for pod in chosen]}")
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if chosen and not _has_port(chosen[0], target):
                said.append(f"{label(service)}: no container of {chosen[0].name} has port {target}")
    return said


def _made_by_an_operator(render: Render, name: str) -> bool:
    return any(
        one["metadata"]["name"] == name
        for one in render.of_kind("RabbitmqCluster", "MongoDBCommunity")
    )


def _has_port(pod: Pod, wanted: int | str) -> bool:
    return any(one.port(wanted) is not None for one in pod.containers)


def has_the_service_it_names(render: Render) -> list[str]:
    """A StatefulSet names a Service; who speaks to a pod by its name needs a headless one."""
    said = []
    for one in render.of_kind("StatefulSet"):
        service = render.find("Service", one["spec"].get("serviceName", ""))
        first = f"{one['metadata']['name']}-0.{one['spec'].get('serviceName')}"
        if service is None:
            said.append(f"{label(one)}: serviceName names no Service")
        elif _is_spoken_to(render, first) and service["spec"].get("clusterIP") != "None":
            said.append(f"{label(one)}: {first} has no address, its Service is not headless")
    return said


def _is_spoken_to(render: Render, host: str) -> bool:
    texts = [text for one in containers(render) for text in environment(render, one).values()]
    texts += [text for keys in made_secrets().values() for text in keys.values()]
    return any(host in text for text in texts)


def names_ports_once(render: Render) -> list[str]:
    """Two ports of a pod with one name or number are a mistake that a Service hides."""
    said = []
    for pod in pods(render):
        ports = [port for one in pod.containers for port in one.spec.get("ports", [])]
        for key in ("name", "containerPort"):
            values = [port.get(key) for port in ports]
            if len(values) != len(set(values)):
                said.append(f"{pod.name}: {key} is taken twice: {values}")
    return said
