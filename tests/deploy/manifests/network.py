"""Whether a connection is allowed by the NetworkPolicies of a render.

Theory of operation, after the Kubernetes documentation. A pod that no policy selects for a
direction may do everything in it. One that some policy selects may do what at least one rule of
those policies allows: rules only add. A connection needs both its ends: the egress of its source
and the ingress of its destination. Whoever is outside the cluster, or in a namespace that the
render does not make, has no policies here.

Limits. An address block is matched against pods as well, because some network plugins do so: what
this allows may be refused by another plugin, and a block that takes in the cluster's own networks
is seen. Policies of other namespaces are not known.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.manifests.objects import Pod, pods, selects
from tests.deploy.manifests.rendering import Object, Render

NAMESPACE_NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address outside the cluster."""

    name: str
    ip: str
    labels: Mapping[str, str] | None = None
    """The labels of a pod; None for an address that is no pod's."""
    namespace: str = ""
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Declared ports, by name."""


@dataclass(frozen=True)
class Flow:
    """A connection that somebody tries."""

    source: End
    target: End
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.target.name}:{self.port}/{self.protocol}"


def policies(render: Render) -> list[Object]:
    """The NetworkPolicies of a render."""
    return render.of_kind("NetworkPolicy")


def pod_end(pod: Pod, namespace: str, ip: str = "10.244.1.7") -> End:
    """A pod of a workload."""
    ports = {
        port["name"]: port["containerPort"]
        for one in pod.containers
        for port in one.spec.get("ports", [])
        if "name" in port
    }
    labels = {NAMESPACE_NAME: namespace}
    return End(pod.owner["metadata"]["name"], ip, pod.labels, namespace, labels, ports)


def ends(render: Render) -> dict[str, End]:
    """Every workload's pod, by the workload's component."""
    return {
        pod.component: pod_end(pod, pod.owner["metadata"].get("namespace", ""))
        for pod in pods(render)
    }


def outside(ip: str) -> End:
    """An address that is no pod's."""
    return End(ip, ip)


def stranger(namespace: str, **labels: str) -> End:
    """Some pod of another namespace that has these labels."""
    name = " ".join([namespace, *(key.rpartition("/")[2] for key in labels)])
    return End(name, "10.244.9.9", {}, namespace, {NAMESPACE_NAME: namespace, **labels})


def allowed(rules: Sequence[Object], flow: Flow) -> bool:
    """Whether both ends let a connection through."""
    return leaves(rules, flow) and enters(rules, flow)


def leaves(rules: Sequence[Object], flow: Flow) -> bool:
    """Whether the source may open a connection, whatever its destination says."""
    return _direction(rules, flow, "Egress")


def enters(rules: Sequence[Object], flow: Flow) -> bool:
    """Whether the destination takes a connection, whatever its source may do."""
    return _direction(rules, flow, "Ingress")


def _direction(rules: Sequence[Object], flow: Flow, direction: str) -> bool:
    own, peer = (flow.source, flow.target) if direction == "Egress" else (flow.target, flow.source)
    chosen = [one for one in rules if _applies(one, own, direction)]
    return not chosen or any(
        _rule(rule, flow, peer, one, "to" if direction == "Egress" else "from")
        for one in chosen
        for rule in one["spec"].get(direction.lower()) or []
    )


def _applies(policy: Object, end: End, direction: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return (
        direction in types
        and end.labels is not None
        and end.namespace == policy["metadata"].get("namespace", "")
        and selects(spec.get("podSelector", {}), end.labels)
    )


def _rule(rule: Object, flow: Flow, peer: End, policy: Object, side: str) -> bool:
    peers, ports = rule.get(side), rule.get("ports")
    return (not peers or any(_peer(one, peer, policy) for one in peers)) and (
        not ports or any(_port(one, flow) for one in ports)
    )


def _peer(wanted: Mapping[str, Any], peer: End, policy: Object) -> bool:
    if "ipBlock" in wanted:
        return _in_block(wanted["ipBlock"], peer.ip)
    if peer.labels is None:
        return False
    if "namespaceSelector" in wanted:
        if not selects(wanted["namespaceSelector"], peer.namespace_labels):
            return False
    elif peer.namespace != policy["metadata"].get("namespace", ""):
        return False
    return "podSelector" not in wanted or selects(wanted["podSelector"], peer.labels)


def _in_block(block: Mapping[str, Any], ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    networks = [ipaddress.ip_network(one) for one in (block["cidr"], *block.get("except", []))]
    inside = [address.version == one.version and address in one for one in networks]
    return inside[0] and not any(inside[1:])


def _port(wanted: Mapping[str, Any], flow: Flow) -> bool:
    if wanted.get("protocol", "TCP") != flow.protocol:
        return False
    port = wanted.get("port")
    if port is None:
        return True
    if isinstance(port, str):  # a name means the port that the destination's pod calls so
        return flow.target.ports.get(port) == flow.port
    return int(port) <= flow.port <= int(wanted.get("endPort", port))
