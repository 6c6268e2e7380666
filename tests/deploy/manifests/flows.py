"""The connections that the system needs, found in what its processes are told and given."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.deploy.manifests.known_settings import known
from tests.deploy.manifests.made_secrets import made_secrets
from tests.deploy.manifests.network import End, Flow, ends
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
OPERATOR_PORTS = {
    "RabbitmqCluster": {"amqp": 5672, "management": 15672, "prometheus": 15692},
    "MongoDBCommunity": {"mongodb": 27017},
}


def needed(render: Render) -> list[Flow]:
    """Every connection inside the cluster that a setting or a secret of a process names."""
    found = {}
    sources_ = ends(render)
    for one in containers(render):
        for host, port in sorted(_told(render, one) | _given(one)):
            flow = _flow(render, sources_[one.pod.component], host, port)
            if flow is not None:
                found[str(flow)] = flow
    return list(found.values())


def _told(render: Render, one: Container) -> set[tuple[str, int]]:
    """Addresses in the variables that this very process reads."""
    told = set()
    for name, value in environment(render, one).items():
        group = known()[name][0].__module__.partition(".")[0] if name in known() else ""
        own = group == one.module or (group == "forebay" and one.module is None)
        may_crawl = name == "FOREBAY_CRAWLER_ALLOW_HOSTS" and one.module == "crawler_worker"
        if own or may_crawl:
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


def _flow(render: Render, source: End, host: str, port: int) -> Flow | None:
    """The connection to whoever has that name in the cluster; None for a name outside of it."""
    name = host.rpartition(".")[2]  # a member is called `mongodb-0.mongodb`
    for service in render.of_kind("Service"):
        if service["metadata"]["name"] == name:
            return _to_service(render, source, service, port)
    for target in operated(render):
        if target.name == name:
            return Flow(source, target, port)
    return None


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
        stateful = one["spec"].get("statefulSet", {}).get("spec", {})
        name = stateful.get("serviceName") or one["metadata"]["name"]
        namespace = one["metadata"].get("namespace", "")
        labels = made_pods(one)
        yield End(name, "10.244.2.9", labels, namespace, {}, OPERATOR_PORTS[one["kind"]])
