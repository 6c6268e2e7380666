"""What a pod has before its first container: a place on the network, and its volumes.

A holder container owns both, so they outlive the pod's own containers, as in a cluster.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .engine import Engine, File
from .environment import PodFacts
from .objects import Manifest, Objects
from .volumes import ROOT, TOKEN_VOLUME, Volume, fill

LABELS = {"forebay-pods": "1"}


@dataclass(frozen=True, slots=True)
class Node:
    """What every pod on the one node shares."""

    engine: Engine
    objects: Objects
    network: str
    host_ip: str
    prefix: str
    """Of the names of everything made in Docker."""
    holder_image: str
    service_addresses: dict[str, str]
    account_files: Callable[[str], dict[str, bytes]]
    """What is mounted for a service account: token, ca.crt, namespace."""
    api_env: dict[str, str]
    """KUBERNETES_SERVICE_HOST and _PORT."""
    changed: Callable[[], None]
    """Called whenever something about a pod changed."""
    say: Callable[[str], None]


@dataclass(slots=True)
class Sandbox:
    """The holder container and the volumes of one pod."""

    node: Node
    name: str
    """Of the holder, and the beginning of the containers' names."""
    volumes: dict[str, Volume]
    holder: str = ""
    ip: str = ""

    @property
    def has_token(self) -> bool:
        """Whether a service account's token is mounted."""
        return TOKEN_VOLUME in self.volumes

    async def make(self, pod: str, spec: Manifest, content: dict[str, dict[str, File]]) -> None:
        """Make volumes and holder and write what belongs into the volumes."""
        engine = self.node.engine
        for volume in self.volumes.values():
            await engine.call("POST", "volumes/create", volume.as_docker())
        self.holder = await engine.create(self.name, self._holder(pod, spec))
        found = await engine.inspect(self.holder)
        self.ip = found["NetworkSettings"]["Networks"][self.node.network]["IPAddress"]
        for name, volume in self.volumes.items():
            await fill(engine, self.holder, volume, content[name], spec)

    async def remove(self) -> None:
        """Remove the holder and the volumes that do not outlive the pod."""
        if self.holder:
            await self.node.engine.remove(self.holder)
        for volume in self.volumes.values():
            if not volume.keeps:
                await self.node.engine.call("DELETE", f"volumes/{volume.docker_name}")

    def _holder(self, pod: str, spec: Manifest) -> dict[str, Any]:
        hostname = spec.get("hostname", pod)[:63]
        subdomain = spec.get("subdomain")
        mounts = [
            {"Type": "volume", "Source": one.docker_name, "Target": f"{ROOT}/{one.name}",
             "VolumeOptions": {"NoCopy": True}}
            for one in self.volumes.values()
        ]  # fmt: skip
        aliases = self._aliases(hostname, subdomain)
        body: dict[str, Any] = {
            "Image": self.node.holder_image,
            "Hostname": hostname,
            "User": "0",
            "Entrypoint": ["sleep", "infinity"],
            "Cmd": [],
            "Labels": LABELS,
            "HostConfig": {"NetworkMode": self.node.network, "Mounts": mounts},
            "NetworkingConfig": {"EndpointsConfig": {self.node.network: {"Aliases": aliases}}},
        }
        if subdomain:
            body["Domainname"] = f"{subdomain}.{self._domain}"
        return body

    @property
    def _domain(self) -> str:
        return f"{self.node.objects.namespace}.svc.cluster.local"

    def _aliases(self, hostname: str, subdomain: str | None) -> list[str]:
        """Every spelling that the cluster's DNS and its search path would find.

        Only a headless Service gives its pods names.
        """
        service = self.node.objects.get("Service", subdomain or "")
        if service is None or subdomain is None or subdomain in self.node.service_addresses:
            return []
        return [*names(f"{hostname}.{subdomain}", self.node.objects.namespace),
                *names(subdomain, self.node.objects.namespace)]  # fmt: skip


def names(short: str, namespace: str) -> list[str]:
    """A Service's names, from the short one to the full one."""
    ends = ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local")
    return [f"{short}{end}" for end in ends]


def facts(node: Node, pod: str, template: Manifest, ip: str) -> PodFacts:
    """What the pod can be told about itself."""
    metadata = template.get("metadata", {})
    return PodFacts(
        name=pod,
        namespace=node.objects.namespace,
        uid=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node.prefix}-{pod}")),
        ip=ip,
        labels=metadata.get("labels", {}),
        annotations=metadata.get("annotations", {}),
        service_account=template["spec"].get("serviceAccountName", "default"),
        host_ip=node.host_ip,
    )
