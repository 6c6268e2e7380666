"""A cluster of one node: what `kubectl apply` of rendered objects would start, in Docker.

async with Cluster(render(...), directory) as cluster:
    await cluster.until_complete(within_s=120)
    url = cluster.url("forebay")
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Self

from .controllers import Deployment, Job, StatefulSet, Workload
from .engine import Engine, EngineError
from .kube_api import KubeApi
from .objects import Manifest, Objects
from .pod import Pod
from .sandbox import LABELS, Node
from .services import Endpoints, Service

_KINDS: dict[str, type[Workload]] = {
    "Deployment": Deployment, "Job": Job, "StatefulSet": StatefulSet,
}  # fmt: skip
_FIRST_SERVICE = 128
_LOOK_S = 0.1


class Cluster:
    """Runs the objects from the moment it is entered; everything is removed at the end."""

    def __init__(self, manifests: list[Manifest], directory: Path, holder_image: str) -> None:
        self.objects = Objects(manifests)
        self.api = KubeApi(self.objects, directory)
        self.workloads: dict[tuple[str, str], Workload] = {}
        self.said: list[str] = []
        """What happened, with the seconds since the start."""
        self._holder_image = holder_image
        self._engine = Engine()
        self._services: list[Service] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._began = time.monotonic()
        self._prefix = f"pods{secrets.token_hex(3)}"
        self._endpoints: Endpoints
        self._node: Node

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    @property
    def engine(self) -> Engine:
        """The daemon."""
        return self._engine

    @property
    def pods(self) -> list[Pod]:
        """All pods that ever were."""
        return [pod for workload in self.workloads.values() for pod in workload.pods]

    def workload(self, kind: str, name: str) -> Any:
        """A Deployment, StatefulSet or Job."""
        return self.workloads[kind, name]

    def url(self, service: str, port: int = 80) -> str:
        """Where a Service answers."""
        return f"http://{self._node.service_addresses[service]}:{port}"

    def endpoints(self, service: str) -> dict[str, list[list[Any]]]:
        """What is behind a Service now: address and port, by the Service's port."""
        return next(one.endpoints for one in self._services if one.name == service)

    def say(self, line: str) -> None:
        """Keep a line for who reads a failed test."""
        self.said.append(f"{time.monotonic() - self._began:7.1f} {line}")

    async def until(self, condition: Callable[[], bool], within_s: float, what: str) -> float:
        """Wait for something about the pods; the seconds it took. Raises with what is known."""
        began = time.monotonic()
        while not condition():
            self.raise_failures()
            if time.monotonic() - began > within_s:
                raise AssertionError(f"{what}: not within {within_s:.0f} s\n{self.describe()}")
            await asyncio.sleep(_LOOK_S)
        return time.monotonic() - began

    async def until_complete(self, within_s: float) -> float:
        """Wait until every pod is ready and every Job has succeeded; the seconds it took."""
        everything = self.workloads.values()
        return await self.until(
            lambda: all(one.complete for one in everything), within_s, "the whole system is up"
        )

    async def roll(self, kind: str, name: str, within_s: float) -> float:
        """`kubectl rollout restart` and `status`, and until the old pods are gone too."""
        workload = self.workload(kind, name)
        self.say(f"{kind} {name}: rollout restart")
        old = list(workload.current)
        workload.restart()
        return await self.until(
            lambda: workload.complete and all(pod.gone for pod in old),
            within_s,
            f"the rollout of {kind} {name}",
        )

    def raise_failures(self) -> None:
        """Raise what went wrong in a task of the cluster's own."""
        for name, task in self._tasks.items():
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise AssertionError(f"{name}\n{self.describe()}") from task.exception()
        failed = [w.name for w in self.workloads.values() if isinstance(w, Job) and w.failed]
        assert not failed, f"Jobs failed: {failed}\n{self.describe()}"

    def describe(self) -> str:
        """What happened, and where each pod stands."""
        lines = list(self.said)
        for pod in self.pods:
            refusals = [one.last_refusal for one in pod.lives if not one.ready]
            state = "ready" if pod.ready else f"{pod.phase} {pod.waiting_for} {refusals}"
            lines.append(f"{pod.name}: {state}, {pod.restarts} restarts, {pod.endings}")
            lines += [f"{pod.name} logs: {life.log[-1500:]}" for life in pod.lives
                      if life.log and not pod.terminating and pod.phase != "Succeeded"]  # fmt: skip
        return "\n".join(lines)

    async def _start(self) -> None:
        network, subnet = await self._network()
        gateway = str(next(subnet.hosts()))
        await self.api.start(gateway)
        self._node = Node(
            engine=self._engine,
            objects=self.objects,
            network=network,
            host_ip=gateway,
            prefix=self._prefix,
            holder_image=self._holder_image,
            service_addresses=self._addresses(subnet),
            account_files=self.api.account_files,
            api_env=self.api.env,
            changed=self._changed,
            say=self.say,
        )
        await self._start_services()
        for kind, controller in _KINDS.items():
            for manifest in self.objects.of(kind):
                workload = controller(self._node, manifest, self._run_pod)
                self.workloads[kind, workload.name] = workload
        for workload in self.workloads.values():
            self._task(f"controller of {workload.name}", workload.run())

    async def _start_services(self) -> None:
        addressed = self._node.service_addresses
        self._services = [Service(self._node, one) for one in self.objects.of("Service")
                          if one["metadata"]["name"] in addressed]  # fmt: skip
        await asyncio.gather(*(service.start() for service in self._services))
        self._endpoints = Endpoints(self._services, lambda: self.pods)
        self._task("endpoints", self._endpoints.run())

    async def _network(self) -> tuple[str, ipaddress.IPv4Network]:
        """A bridge of our own, in whatever private range is free; pods low, Services high."""
        for number in range(200, 250):
            subnet = ipaddress.IPv4Network(f"10.213.{number}.0/24")
            config = {"Subnet": str(subnet), "Gateway": str(next(subnet.hosts())),
                      "IPRange": f"10.213.{number}.0/25"}  # fmt: skip
            try:
                await self._engine.call(
                    "POST",
                    "networks/create",
                    {"Name": self._prefix, "IPAM": {"Config": [config]}, "Labels": LABELS},
                )
            except EngineError as error:
                if "overlap" not in str(error):
                    raise
                continue
            return self._prefix, subnet
        raise AssertionError("no free range for a network")

    def _addresses(self, subnet: ipaddress.IPv4Network) -> dict[str, str]:
        headed = [one for one in self.objects.of("Service")
                  if one["spec"].get("clusterIP") != "None"]  # fmt: skip
        return {one["metadata"]["name"]: str(subnet[_FIRST_SERVICE + n])
                for n, one in enumerate(headed)}  # fmt: skip

    def _changed(self) -> None:
        self._endpoints.notice()
        for workload in self.workloads.values():
            workload.notice()

    def _run_pod(self, pod: Pod) -> None:
        self._task(f"pod {pod.name} ({len(self.pods)})", pod.run())

    def _task(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def _stop(self) -> None:
        """Remove everything, however far it came; nobody is given time to end in order."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._sweep()
        if self.api.env:
            await self.api.stop()
        await self._engine.__aexit__()

    async def _sweep(self) -> None:
        mine = {"filters": f'{{"name": ["{self._prefix}"]}}'}
        found = await self._engine.call("GET", "containers/json", params={"all": "1", **mine})
        await asyncio.gather(*(self._engine.remove(one["Id"]) for one in found))
        volumes = await self._engine.call("GET", "volumes", params=mine)
        for volume in volumes["Volumes"] or []:
            await self._engine.call("DELETE", f"volumes/{volume['Name']}")
        await _tolerating(self._engine.call("DELETE", f"networks/{self._prefix}"))


async def _tolerating(call: Awaitable[None]) -> None:
    """What was never made cannot be removed."""
    try:
        await call
    except EngineError as error:
        if "not found" not in str(error):
            raise
