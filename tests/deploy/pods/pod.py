"""One pod's life: sandbox, init containers, containers under their probes, termination.

Theory of operation. `Pod.run` is the pod's only task of its own. It waits for the ConfigMaps and
Secrets that the pod refers to, makes the sandbox, runs the init containers in turn and then one
`ContainerLife` for each container, until `terminate` is called or, in a Job, until all have
ended. Whoever watches pods (Services, controllers) is told by `node.changed`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from .container_life import ContainerLife, Ending, PodContext
from .engine import File
from .environment import MissingReference, PodFacts, environment, service_links
from .events import within
from .objects import Manifest, only
from .sandbox import Node, Sandbox, facts
from .volumes import TOKEN_VOLUME, Volume, files_of, volumes_of

_KNOWN = {
    "affinity", "automountServiceAccountToken", "containers", "enableServiceLinks", "hostname",
    "initContainers", "nodeSelector", "priorityClassName", "restartPolicy", "securityContext",
    "serviceAccount", "serviceAccountName", "subdomain", "terminationGracePeriodSeconds",
    "tolerations", "topologySpreadConstraints", "volumes",
}  # fmt: skip
_LOOK_AGAIN_S = 0.5


@dataclass(slots=True)
class Pod:
    """One pod; `node.changed` is called whenever its readiness or phase changed."""

    node: Node
    name: str
    template: Manifest
    revision: int
    claims: dict[str, str] = field(default_factory=dict)
    """Docker volume of each claim."""
    phase: str = "Pending"
    waiting_for: str = ""
    terminating: bool = False
    left_at: float | None = None
    """When its end began, on the monotonic clock, if it was ready then."""
    ready_after_s: float | None = None
    ip: str = ""
    lives: list[ContainerLife] = field(default_factory=list)
    """Of the containers, or of the init container that runs."""
    logs: dict[str, str] = field(default_factory=dict)
    """By container, when it has ended."""
    _created: float = field(default_factory=time.monotonic)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def spec(self) -> Manifest:
        """The pod's spec."""
        found: Manifest = self.template["spec"]
        return found

    @property
    def labels(self) -> dict[str, str]:
        """The pod's labels."""
        found: dict[str, str] = self.template.get("metadata", {}).get("labels", {})
        return found

    @property
    def ready(self) -> bool:
        """Every container is ready, and the pod is not on its way out."""
        up = self.phase == "Running" and all(one.ready for one in self.lives)
        return up and not self.terminating

    @property
    def endings(self) -> list[Ending]:
        """How the containers' runs ended."""
        return [ending for one in self.lives for ending in one.endings]

    @property
    def restarts(self) -> int:
        """How often a container was started again."""
        return sum(one.restarts for one in self.lives)

    @property
    def ports(self) -> dict[str, int]:
        """The named ports of all containers."""
        ports = [port for one in self.spec["containers"] for port in one.get("ports", [])]
        return {port["name"]: port["containerPort"] for port in ports if "name" in port}

    async def run(self) -> None:
        """Live from the creation to the end."""
        only(_KNOWN, self.spec, f"pod {self.name}")
        sandbox = None
        try:
            content = await self._referred_to()
            if content is None:
                return
            sandbox = self._sandbox([volume for volume, _ in content])
            await sandbox.make(self.name, self.spec, {v.name: files for v, files in content})
            self.ip = sandbox.ip
            await self._live(self._context(sandbox))
        finally:
            if sandbox is not None:
                await sandbox.remove()
            self._ended.set()
            self.node.changed()

    def terminate(self) -> None:
        """Begin the end: not ready from now on; `run` returns when the containers are gone."""
        self.left_at = time.monotonic() if self.ready else None
        self.terminating = True
        self._stop.set()
        self.node.changed()

    async def ended(self) -> None:
        """Wait until nothing of the pod is left."""
        await self._ended.wait()

    @property
    def gone(self) -> bool:
        """Whether nothing of the pod is left."""
        return self._ended.is_set()

    async def _referred_to(self) -> list[tuple[Volume, dict[str, File]]] | None:
        """The volumes' content, as soon as it is all there; None when the pod ends before."""
        while not self._stop.is_set():
            try:
                known = facts(self.node, self.name, self.template, "")
                self._check_environment(known)
                content = self._content(known)
            except MissingReference as error:
                self.waiting_for = str(error)
                await within(self._stop, _LOOK_AGAIN_S)
                continue
            self.waiting_for = ""
            return content
        return None

    def _check_environment(self, known: PodFacts) -> None:
        for container in [*self.spec.get("initContainers", []), *self.spec["containers"]]:
            environment(container, self.node.objects, known, {})

    def _content(self, known: PodFacts) -> list[tuple[Volume, dict[str, File]]]:
        account = self.node.account_files(known.service_account)
        volumes = volumes_of(self.spec, self.name, self.node.prefix, self.claims)
        found = [(one, files_of(one, self.node.objects, known, account)) for one in volumes]
        if self._mounts_token:
            name = f"{self.node.prefix}-{self.name}-{TOKEN_VOLUME}"
            files = {path: File(path, content, 0o644) for path, content in account.items()}
            found.append((Volume(TOKEN_VOLUME, "projected", {}, name, keeps=False), files))
        return found

    @property
    def _mounts_token(self) -> bool:
        if "automountServiceAccountToken" in self.spec:
            return bool(self.spec["automountServiceAccountToken"])
        name = self.spec.get("serviceAccountName", "default")
        account = self.node.objects.get("ServiceAccount", name) or {}
        return bool(account.get("automountServiceAccountToken", True))

    def _sandbox(self, volumes: list[Volume]) -> Sandbox:
        name = f"{self.node.prefix}-{self.name}"
        return Sandbox(self.node, name, {volume.name: volume for volume in volumes})

    def _context(self, sandbox: Sandbox) -> PodContext:
        links = {}
        if self.spec.get("enableServiceLinks", True):
            links = service_links(self.node.objects, self.node.service_addresses)
        return PodContext(
            engine=self.node.engine,
            objects=self.node.objects,
            spec=self.spec,
            facts=facts(self.node, self.name, self.template, sandbox.ip),
            links={**self.node.api_env, **links},
            sandbox=sandbox,
            say=self.node.say,
        )

    async def _live(self, context: PodContext) -> None:
        for container in self.spec.get("initContainers", []):
            if await self._all([self._life(context, container, init=True)]) != 0:
                self.phase = "Failed"
                return
        self.phase = "Running"
        lives = [self._life(context, one, init=False) for one in self.spec["containers"]]
        self.phase = "Failed" if await self._all(lives) else "Succeeded"

    def _life(self, context: PodContext, container: Manifest, *, init: bool) -> ContainerLife:
        policy = self.spec.get("restartPolicy", "Always")
        if init and policy == "Always":
            policy = "OnFailure"
        return ContainerLife(context, container, self._container_changed, policy)

    async def _all(self, lives: list[ContainerLife]) -> int:
        """Run them to their end; the first exit code that is not 0, or 0."""
        self.lives = lives
        grace_s = float(self.spec.get("terminationGracePeriodSeconds", 30))
        await asyncio.gather(*(one.run(self._stop, grace_s) for one in lives))
        self.logs |= {one.container["name"]: one.log for one in lives}
        return next((one.exit_code for one in lives if one.exit_code != 0), 0)

    def _container_changed(self) -> None:
        if self.ready and self.ready_after_s is None:
            self.ready_after_s = round(time.monotonic() - self._created, 1)
            self.node.say(f"{self.name}: ready after {self.ready_after_s} s")
        self.node.changed()
