"""The connections that the system needs, found in what its processes are told and given."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.deploy.manifests.known_settings import known
from tests.deploy.manifests.made_secrets import made_secrets
from tests.deploy.manifests.network import End, Flow, ends, stranger
from tests.deploy.manifests.objects import (
    Container,
    containers,
    environment,
    pods,
    selects,
    source_name,
    sources,
    volumes,
)
from tests.deploy.manifests.rendering import Object, Render
from tests.deploy.manifests.rules.clusters import clusters, made_pods

_IN_URL = re.compile(r"(?:://|@|,|^)([a-z0-9.-]+):(\d+)(?=[/,?]|$)")
ALLOWING = {
    "FOREBAY_CRAWLER_ALLOW_HOSTS": "crawler_worker",
    "FOREBAY_WEBHOOK_ALLOW_HOSTS": "webhook_worker",
}
"""Settings of all processes that name whom one of them calls."""
KEDA = stranger("keda")
"""Its operator runs in a namespace of its own, and asks for names from there."""
OPERATOR_PORTS = {
    "RabbitmqCluster": {"amqp": 5672, "management": 15672, "prometheus": 15692},
    "MongoDBCommunity": {"mongodb": 27017},
}


class UnknownHostError(LookupError):
    """Somebody is told a host that the name server does not know where it asks."""


def needed(render: Render) -> list[Flow]:
    """Every connection that a setting or a secret names; raises `UnknownHostError`.

    All that is rendered here speaks to servers in the cluster, the providers' public APIs aside,
    whose URLs name no port.
    """
    flows = [_flow(render, source, host, port) for source, host, port in _calls(render)]
    return list({str(flow): flow for flow in flows}.values())


def _calls(render: Render) -> Iterator[tuple[End, str, int]]:
    """Who is told which host and port."""
    sources_ = ends(render)
    for one in containers(render):
        for host, port in sorted(_told(render, one) | _given(one)):
            yield sources_[one.pod.component], host, port
    for one in render.of_kind("TriggerAuthentication"):
        for wanted in one["spec"].get("secretTargetRef", []):
            text = made_secrets().get(wanted["name"], {}).get(wanted["key"], "")
            for host, port in sorted(_addresses(text)):
                yield KEDA, host, port


def _told(render: Render, one: Container) -> set[tuple[str, int]]:
    """Addresses in the variables that this very process reads."""
    told = set()
    for name, value in environment(render, one).items():
        group = known()[name][0].__module__.partition(".")[0] if name in known() else ""
        own = group == one.module or (group == "forebay" and one.module is None)
        if own or (name in ALLOWING and ALLOWING[name] == one.module):
            told |= _addresses(value)
    return told


def _given(one: Container) -> set[tuple[str, int]]:
    """Addresses in the secrets that are mounted for our processes."""
    given = set()
    for volume in volumes(one).values():
        for source in sources(volume, "secret") if one.ours else ():
            for text in made_secrets().get(source_name(source), {}).values():
                given |= _addresses(text)
    # Both steps of the preparation see all of its secrets, and each takes its own.
    return given


def _addresses(text: str) -> set[tuple[str, int]]:
    return {(host, int(port)) for host, port in _IN_URL.findall(text)}


def _flow(render: Render, source: End, host: str, port: int) -> Flow:
    """The connection to whoever has that name where the source asks for it."""
    for service in render.of_kind("Service"):
        name, namespace = service["metadata"]["name"], service["metadata"].get("namespace", "")
        if host in _names(name, namespace, _members(render, name), source.namespace):
            return _to_service(render, source, service, port)
    for target in operated(render):
        members = _members(render, target.name)
        if host in _names(target.name, target.namespace, members, source.namespace):
            return Flow(source, target, port)
    raise UnknownHostError(f"{source.name} is told {host}:{port}: nobody in {render.name}")


def _names(service: str, namespace: str, members: list[str], asked_in: str) -> set[str]:
    """What a Service and its members are called; the short names only in their own namespace."""
    short = {service, *(f"{member}.{service}" for member in members)}
    ends_ = (f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local")
    long = {f"{name}{end}" for name in short for end in ends_}
    return long | short if asked_in == namespace else long


def _members(render: Render, service: str) -> list[str]:
    """The pods that have a name of their own behind a Service."""
    sets = [
        (one["metadata"]["name"], one["spec"].get("replicas", 1))
        for one in render.of_kind("StatefulSet")
        if one["spec"].get("serviceName") == service
    ]
    sets += [
        (one["metadata"]["name"], one["spec"].get("members", 1))
        for one in render.of_kind("MongoDBCommunity")
        if _service(one) == service
    ]
    return [f"{name}-{number}" for name, count in sets for number in range(count)]


def _to_service(render: Render, source: End, service: Object, port: int) -> Flow | None:
    selector = {"matchLabels": service["spec"]["selector"]}
    (pod,) = (pod for pod in pods(render) if selects(selector, pod.labels))
    (target,) = (
        one.get("targetPort", port) for one in service["spec"]["ports"] if one["port"] == port
    )
    (number,) = filter(None, (one.port(target) for one in pod.containers))
    return Flow(source, ends(render)[pod.component], number)


def operated(render: Render) -> Iterator[End]:
    """The pods that operators make, by the name under which they are reached."""
    for one in clusters(render):
        namespace = one["metadata"].get("namespace", "")
        labels = made_pods(one)
        yield End(_service(one), "10.244.2.9", labels, namespace, {}, OPERATOR_PORTS[one["kind"]])


def _service(cluster: Object) -> str:
    stateful = cluster["spec"].get("statefulSet", {}).get("spec", {})
    name: str = stateful.get("serviceName") or cluster["metadata"]["name"]
    return name
