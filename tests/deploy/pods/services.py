"""Services: each with an address of its own, and the ready pods behind it.

A pod that terminates stays among the endpoints for `PROPAGATION_S`: in a cluster the kubelet
signals the process and every node's proxy hears of it independently, the proxies usually later.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import proxy
from .objects import Manifest, only, selects
from .pod import Pod
from .sandbox import LABELS, Node, names

PROPAGATION_S = 1.0
_KNOWN = {
    "clusterIP", "internalTrafficPolicy", "ports", "publishNotReadyAddresses", "selector", "type",
}  # fmt: skip


@dataclass(slots=True)
class Service:
    """One Service with an address. A headless one is the DNS names of its pods and no more."""

    node: Node
    manifest: Manifest
    container: str = ""
    endpoints: dict[str, list[list[Any]]] = field(default_factory=dict)
    """What the proxy was told last: address and port, by the Service's port."""

    @property
    def name(self) -> str:
        """The Service's name."""
        found: str = self.manifest["metadata"]["name"]
        return found

    @property
    def address(self) -> str:
        """The cluster address."""
        return self.node.service_addresses[self.name]

    async def start(self) -> None:
        """Make the address; nobody is behind it yet."""
        only(_KNOWN, self.manifest["spec"], f"Service {self.name}")
        network = self.node.network
        config = {
            "Aliases": names(self.name, self.node.objects.namespace),
            "IPAMConfig": {"IPv4Address": self.address},
        }
        body = {
            "Image": self.node.holder_image,
            "User": "0",
            "Entrypoint": ["python", "-c", inspect.getsource(proxy)],
            "Cmd": [],
            "Labels": LABELS,
            "HostConfig": {"NetworkMode": network},
            "NetworkingConfig": {"EndpointsConfig": {network: config}},
        }
        self.container = await self.node.engine.create(f"{self.node.prefix}-svc-{self.name}", body)

    async def stop(self) -> None:
        """Remove the address."""
        await self.node.engine.remove(self.container)

    async def follow(self, pods: Iterable[Pod]) -> None:
        """Put these pods, where selected, behind the address."""
        spec = self.manifest["spec"]
        behind = [pod for pod in pods if pod.ip and selects(spec["selector"], pod.labels)]
        wanted = {
            str(port["port"]): [[pod.ip, _target(port, pod)] for pod in behind]
            for port in spec["ports"]
        }
        if wanted != self.endpoints:
            await self._tell(wanted)
            self.endpoints = wanted

    async def _tell(self, wanted: dict[str, list[list[Any]]]) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    reader, writer = await asyncio.open_connection(self.address, proxy.CONTROL_PORT)
                    break
                except OSError:
                    await asyncio.sleep(0.1)  # it is being started
            writer.write(json.dumps(wanted).encode() + b"\n")
            assert await reader.readline() == b"ok\n"
            writer.close()


def _target(port: Manifest, pod: Pod) -> int:
    target: int | str = port.get("targetPort", port["port"])
    return pod.ports[target] if isinstance(target, str) else target


class Endpoints:
    """Keeps every Service's endpoints in step with the pods."""

    def __init__(self, services: list[Service], pods: Callable[[], list[Pod]]) -> None:
        self._services = services
        self._pods = pods
        self._changed = asyncio.Event()

    def notice(self) -> None:
        """Something about a pod changed."""
        self._changed.set()

    async def run(self) -> None:
        """Follow the pods for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.follow()

    async def follow(self) -> None:
        """Bring every Service up to date."""
        serving = [pod for pod in self._pods() if pod.ready or self._lingers(pod)]
        for service in self._services:
            await service.follow(serving)

    def _lingers(self, pod: Pod) -> bool:
        """Whether the pod was ready when its end began, and the proxies have not heard of it."""
        if pod.left_at is None or pod.gone:
            return False
        left_s = pod.left_at + PROPAGATION_S - time.monotonic()
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self.notice)
        return left_s > 0
