"""One container's life inside a pod: started, probed, started again, and stopped in order.

Stopping is preStop, then the image's stop signal, then what is left of the grace period, then
SIGKILL; the hook's time counts. A container that ended by itself is started again by the pod's
restart policy, at once the first time and then after 10, 20, 40 ... at most 300 seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .container import docker_container
from .engine import Engine
from .environment import PodFacts, environment
from .events import first_of, within
from .objects import Manifest, NotEmulated, Objects, only
from .probes import Target, Watch, look
from .sandbox import Sandbox

_CRASH_BACKOFF_S, _CRASH_CAP_S = 10.0, 300.0
_GRACE_AFTER_HOOK_S = 2.0
"""What the process gets although its preStop hook used up the grace period."""
_number = itertools.count()


@dataclass(frozen=True, slots=True)
class PodContext:
    """What a container needs of its pod."""

    engine: Engine
    objects: Objects
    spec: Manifest
    facts: PodFacts
    links: dict[str, str]
    sandbox: Sandbox
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run of a container ended."""

    reason: str
    """`stopped`, `liveness`, `startup` or `exited`."""
    exit_code: int
    took_s: float
    """From the request to stop to the end; 0 when it ended by itself."""
    killed: bool
    """It had to be killed, because its grace period was over."""
    out_of_memory: bool


@dataclass(slots=True)
class ContainerLife:
    """One container; `changed` is called whenever its readiness changed."""

    pod: PodContext
    container: Manifest
    changed: Callable[[], None]
    policy: str
    """The pod's restart policy."""
    ready: bool = False
    endings: list[Ending] = field(default_factory=list)
    log: str = ""
    docker_id: str = ""
    last_refusal: str = ""
    """What the probe that failed last said."""
    _starts: int = 0

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(self._starts - 1, 0)

    @property
    def exit_code(self) -> int:
        """Of the last run."""
        return self.endings[-1].exit_code

    async def run(self, stop: asyncio.Event, grace_s: float) -> None:
        """Live until told to stop or, by the restart policy, until it ended for good."""
        while True:
            ending = await self._once(stop, grace_s)
            self.endings.append(ending)
            self.pod.say(f"{self.pod.facts.name}/{self.container['name']}: {ending}")
            if stop.is_set() or not self._again(ending):
                return
            if await within(stop, self._backoff_s()):
                return

    def _again(self, ending: Ending) -> bool:
        return self.policy == "Always" or (self.policy == "OnFailure" and ending.exit_code != 0)

    def _backoff_s(self) -> float:
        crashes = len(self.endings)
        return 0.0 if crashes == 1 else min(_CRASH_BACKOFF_S * 2 ** (crashes - 2), _CRASH_CAP_S)

    async def _once(self, stop: asyncio.Event, grace_s: float) -> Ending:
        env = environment(self.container, self.pod.objects, self.pod.facts, self.pod.links)
        body = docker_container(self.pod.spec, self.container, env, self.pod.sandbox)
        self._starts += 1
        name = f"{self.pod.sandbox.name}-{self.container['name']}-{next(_number)}"
        self.docker_id = await self.pod.engine.create(name, body)
        ended = asyncio.create_task(self.pod.engine.wait(self.docker_id))
        probing = asyncio.create_task(self._probe())
        try:
            ending = await self._ending(ended, probing, stop, grace_s)
            self.log += await self.pod.engine.logs(self.docker_id)
            return ending
        finally:
            probing.cancel()
            ended.cancel()
            self._set_ready(False)
            await self.pod.engine.remove(self.docker_id)

    async def _ending(
        self,
        ended: asyncio.Task[int],
        probing: asyncio.Task[str],
        stop: asyncio.Event,
        grace_s: float,
    ) -> Ending:
        stopping = asyncio.create_task(stop.wait())
        await first_of(ended, probing, stopping)
        stopping.cancel()
        if ended.done():
            return await self._ended("exited", ended.result(), 0.0, killed=False)
        reason = "stopped"
        if probing.done():
            reason = probing.result()
            grace_s = float(self._probes[reason].get("terminationGracePeriodSeconds", grace_s))
        began = time.monotonic()
        killed = await self._stop(ended, grace_s)
        return await self._ended(reason, await ended, time.monotonic() - began, killed=killed)

    async def _ended(self, reason: str, code: int, took_s: float, *, killed: bool) -> Ending:
        state = (await self.pod.engine.inspect(self.docker_id))["State"]
        return Ending(reason, code, round(took_s, 1), killed, bool(state["OOMKilled"]))

    async def _stop(self, ended: asyncio.Task[int], grace_s: float) -> bool:
        """preStop, signal, grace, kill. Whether it had to be killed."""
        began = time.monotonic()
        hook = asyncio.create_task(self._before_stop())
        await first_of(hook, ended, timeout_s=grace_s)
        hook.cancel()
        await self.pod.engine.signal(self.docker_id, await self._stop_signal())
        left = max(grace_s - (time.monotonic() - began), _GRACE_AFTER_HOOK_S)
        await first_of(ended, timeout_s=left)
        if ended.done():
            return False
        await self.pod.engine.signal(self.docker_id, "SIGKILL")
        return True

    async def _stop_signal(self) -> str:
        config = (await self.pod.engine.inspect(self.docker_id))["Config"]
        return config.get("StopSignal") or "SIGTERM"

    async def _before_stop(self) -> None:
        lifecycle = self.container.get("lifecycle", {})
        only({"preStop"}, lifecycle, "lifecycle")
        match lifecycle.get("preStop"):
            case None:
                return
            case {"sleep": {"seconds": seconds}}:
                await asyncio.sleep(float(seconds))
            case {"exec": {"command": command}}:
                await self.pod.engine.run(self.docker_id, command)
            case other:
                raise NotEmulated(f"preStop {other}")

    @property
    def _probes(self) -> dict[str, Manifest]:
        names = ("startup", "liveness", "readiness")
        return {one: self.container[f"{one}Probe"] for one in names
                if f"{one}Probe" in self.container}  # fmt: skip

    async def _probe(self) -> str:
        """Watch the probes; returns the name of the one for which the container must be killed."""
        if "startup" in self._probes and not await self._watch("startup"):
            return "startup"
        if "readiness" not in self._probes:
            self._set_ready(True)
        readiness = asyncio.create_task(self._watch("readiness"))
        try:
            await self._watch("liveness")
        finally:
            readiness.cancel()
        return "liveness"

    async def _watch(self, kind: str) -> bool:
        """Look again and again. Startup: until it is decided; liveness: until it failed."""
        if kind not in self._probes:
            await asyncio.Event().wait()
        watch, target = Watch(self._probes[kind]), self._target
        await asyncio.sleep(watch.delay_s)
        while True:
            refusal = await look(self.pod.engine, watch.probe, target)
            watch.count(refusal is None)
            if refusal is not None:
                self.last_refusal = f"{kind}: {refusal}"
            if kind == "readiness":
                self._set_ready(watch.passing is True)
            elif watch.passing is False or (kind == "startup" and watch.passing):
                return bool(watch.passing)
            await asyncio.sleep(watch.period_s)

    @property
    def _target(self) -> Target:
        ports = {p["name"]: p["containerPort"] for p in self.container.get("ports", [])
                 if "name" in p}  # fmt: skip
        return Target(self.docker_id, self.pod.facts.ip, ports)

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self.changed()
