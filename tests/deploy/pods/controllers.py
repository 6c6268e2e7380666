"""Deployments, StatefulSets and Jobs: which pods there are, and in which order they are replaced.

Each controller looks whenever a pod changed and does what is due. A Deployment follows the
arithmetic of its strategy: never more than replicas + maxSurge pods that are not on their way out,
never fewer than replicas - maxUnavailable ready ones; a pod on its way out counts as neither.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from .objects import Manifest, NotEmulated, only
from .pod import Pod
from .sandbox import Node

_NAMES = itertools.count(1)


class Workload(ABC):
    """What the three have in common: a manifest, pods, and a task that looks after them."""

    def __init__(self, node: Node, manifest: Manifest, spawn: Callable[[Pod], None]) -> None:
        self.node = node
        self.manifest = manifest
        self.pods: list[Pod] = []
        """All pods that ever were, in the order of their creation."""
        self.revision = 1
        self._spawn = spawn
        self._look = asyncio.Event()

    @property
    def name(self) -> str:
        """The object's name."""
        found: str = self.manifest["metadata"]["name"]
        return found

    @property
    def spec(self) -> Manifest:
        """The object's spec."""
        found: Manifest = self.manifest["spec"]
        return found

    @property
    def current(self) -> list[Pod]:
        """The pods that are there and not on their way out."""
        return [pod for pod in self.pods if not pod.terminating and not pod.gone]

    @property
    @abstractmethod
    def complete(self) -> bool:
        """All is as the manifest asks for."""

    def notice(self) -> None:
        """A pod changed, or something was asked for."""
        self._look.set()

    async def run(self) -> None:
        """Look after the pods for ever."""
        while True:
            self._look.clear()
            self.look()
            await self._look.wait()

    @abstractmethod
    def look(self) -> None:
        """Do what is due now."""

    def _create(self, name: str, template: Manifest, claims: Mapping[str, str] = {}) -> Pod:
        pod = Pod(self.node, name, template, self.revision, dict(claims))
        self.pods.append(pod)
        self._spawn(pod)
        return pod


class Deployment(Workload):
    """Replaces its pods by RollingUpdate or Recreate."""

    def __init__(self, node: Node, manifest: Manifest, spawn: Callable[[Pod], None]) -> None:
        super().__init__(node, manifest, spawn)
        only(
            {"replicas", "revisionHistoryLimit", "selector", "strategy", "template",
             "progressDeadlineSeconds"},
            self.spec,
            f"Deployment {self.name}",
        )  # fmt: skip
        self.replicas = int(self.spec.get("replicas", 1))

    @property
    def complete(self) -> bool:
        """Every pod is of this revision and ready."""
        ready = [pod for pod in self.current if pod.revision == self.revision and pod.ready]
        return len(ready) == len(self.current) == self.replicas

    def restart(self) -> None:
        """What `kubectl rollout restart` does."""
        self.revision += 1
        self.notice()

    def look(self) -> None:
        """Create and end pods as far as the strategy allows."""
        strategy = self.spec.get("strategy", {})
        match strategy.get("type", "RollingUpdate"):
            case "Recreate":
                self._recreate()
            case "RollingUpdate":
                self._roll(strategy.get("rollingUpdate", {}))
            case other:
                raise NotEmulated(f"strategy {other}")

    def _recreate(self) -> None:
        old = [pod for pod in self.pods if pod.revision != self.revision and not pod.gone]
        for pod in old:
            if not pod.terminating:
                pod.terminate()
        if not old:
            self._fill(self.replicas)

    def _roll(self, bounds: Manifest) -> None:
        surge = part(bounds.get("maxSurge", "25%"), self.replicas, math.ceil)
        unavailable = part(bounds.get("maxUnavailable", "25%"), self.replicas, math.floor)
        self._fill(self.replicas + surge)
        keep = self.replicas - unavailable
        for pod in sorted(self._old(), key=lambda one: one.ready):
            others_ready = sum(one.ready for one in self.current if one is not pod)
            if others_ready >= keep:
                pod.terminate()
        self._fill(self.replicas + surge)

    def _old(self) -> list[Pod]:
        return [pod for pod in self.current if pod.revision != self.revision]

    def _fill(self, ceiling: int) -> None:
        new = sum(pod.revision == self.revision for pod in self.current)
        for _ in range(min(ceiling - len(self.current), self.replicas - new)):
            name = f"{self.name}-r{self.revision}-{next(_NAMES)}"
            self._create(name, self.spec["template"])


class StatefulSet(Workload):
    """One pod after the other, by ordinal; each keeps its name and its volumes."""

    def __init__(self, node: Node, manifest: Manifest, spawn: Callable[[Pod], None]) -> None:
        super().__init__(node, manifest, spawn)
        only(
            {"podManagementPolicy", "replicas", "revisionHistoryLimit", "selector",
             "serviceName", "template", "updateStrategy", "volumeClaimTemplates"},
            self.spec,
            f"StatefulSet {self.name}",
        )  # fmt: skip
        if self.spec.get("updateStrategy", {}).get("type", "RollingUpdate") != "RollingUpdate":
            raise NotEmulated("updateStrategy")
        self.replicas = int(self.spec.get("replicas", 1))

    @property
    def complete(self) -> bool:
        """Every pod is of this revision and ready."""
        ready = [pod for pod in self.current if pod.revision == self.revision and pod.ready]
        return len(ready) == self.replicas

    def restart(self) -> None:
        """What `kubectl rollout restart` does."""
        self.revision += 1
        self.notice()

    def look(self) -> None:
        """Fill up in order; when all are ready, replace the highest old one."""
        parallel = self.spec.get("podManagementPolicy") == "Parallel"
        by_name = {pod.name: pod for pod in self.pods if not pod.gone}
        for ordinal in range(self.replicas):
            name = f"{self.name}-{ordinal}"
            if name not in by_name:
                self._create(name, self._template(name), self._claims(name))
                if not parallel:
                    return
            elif not by_name[name].ready and not parallel:
                return
        if all(pod.ready for pod in by_name.values()) and len(by_name) == self.replicas:
            old = [pod for pod in by_name.values() if pod.revision != self.revision]
            if old:
                max(old, key=lambda pod: int(pod.name.rpartition("-")[2])).terminate()

    def _template(self, name: str) -> Manifest:
        template = self.spec["template"]
        named = {"hostname": name, "subdomain": self.spec["serviceName"]}
        return {**template, "spec": {**template["spec"], **named}}

    def _claims(self, name: str) -> dict[str, str]:
        claims = self.spec.get("volumeClaimTemplates", [])
        names = [claim["metadata"]["name"] for claim in claims]
        return {claim: f"{self.node.prefix}-claim-{name}-{claim}" for claim in names}


class Job(Workload):
    """Runs to completion, again after a failure, as often as backoffLimit allows."""

    _KNOWN = frozenset(
        {"activeDeadlineSeconds", "backoffLimit", "template", "ttlSecondsAfterFinished"}
    )

    def __init__(self, node: Node, manifest: Manifest, spawn: Callable[[Pod], None]) -> None:
        super().__init__(node, manifest, spawn)
        only(self._KNOWN, self.spec, f"Job {self.name}")

    @property
    def complete(self) -> bool:
        """A pod of it succeeded."""
        return any(pod.phase == "Succeeded" for pod in self.pods)

    @property
    def failures(self) -> int:
        """Failed pods, and containers that were started again in place."""
        failed = sum(pod.phase == "Failed" for pod in self.pods)
        return failed + sum(pod.restarts for pod in self.pods)

    @property
    def failed(self) -> bool:
        """It may not try again."""
        return self.failures > int(self.spec.get("backoffLimit", 6))

    def look(self) -> None:
        """Begin, or try again."""
        if self.failed:
            for pod in self.current:
                pod.terminate()
        elif not self.complete and not self.current:
            self._create(f"{self.name}-{next(_NAMES)}", self.spec["template"])


def part(given: Any, of: int, rounded: Callable[[float], int]) -> int:
    """A number, or a share of `of` written as a percentage."""
    if isinstance(given, str):
        return rounded(of * int(given.removesuffix("%")) / 100)
    return int(given)
