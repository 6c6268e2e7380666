"""How a pod is watched."""

from __future__ import annotations

from tests.deploy.manifests.objects import Container, containers
from tests.deploy.manifests.rendering import Object, Render

KINDS = ("startupProbe", "livenessProbe", "readinessProbe")
PATHS = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
"""What each probe of ours asks. A pod that is restarted because the store is away mends nothing,
so nothing that restarts a pod may ask for readiness."""
STARTS_WITHIN_S = 60
"""A cold start on a busy node: the LLM worker alone needs some seconds of processor."""


def has_all_three_probes(render: Render) -> list[str]:
    """Every container that runs for ever has a startup, a liveness and a readiness probe."""
    return [
        f"{one.name}: has no {kind}"
        for one in containers(render)
        if one.long_lived
        for kind in KINDS
        if kind not in one.spec
    ]


def restarts_for_its_own_fault_only(render: Render) -> list[str]:
    """Liveness and start ask /livez, readiness /readyz; of others, not all the same."""
    said = []
    for one in containers(render):
        if not one.long_lived:
            continue
        asked = {kind: _asked(one.spec.get(kind, {})) for kind in KINDS}
        if one.ours and one.module and not one.module.startswith("loadtest."):
            said += [
                f"{one.name}: {kind} asks {asked[kind]!r} and not {path}"
                for kind, path in PATHS.items()
                if asked[kind] != path
            ]
        said += [
            f"{one.name}: {kind} asks {asked[kind]}"
            for kind in ("startupProbe", "livenessProbe")
            if "readyz" in asked[kind] and not one.ours
        ]
    return said


def _asked(probe: Object) -> str:
    if "httpGet" in probe:
        return str(probe["httpGet"].get("path", "/"))
    return " ".join(probe.get("exec", {}).get("command", []))


def probes_a_port_it_has(render: Render) -> list[str]:
    """A probe's port is declared by its own container."""
    said = []
    for one in containers(render):
        for kind in KINDS:
            probe = one.spec.get(kind, {})
            said += [
                f"{one.name}: {kind} asks port {probe[how]['port']!r}"
                for how in ("httpGet", "tcpSocket", "grpc")
                if how in probe and one.port(probe[how]["port"]) is None
            ]
    return said


def is_given_time(render: Render) -> list[str]:
    """A start on a busy node is no failure, and neither is one slow answer."""
    said = []
    for one in containers(render):
        if not one.long_lived:
            continue
        start, live = one.spec.get("startupProbe", {}), one.spec.get("livenessProbe", {})
        if start and _patience_s(start) < STARTS_WITHIN_S:
            said.append(f"{one.name}: has only {_patience_s(start)} s to start")
        if live and (_patience_s(live) < 30 or live.get("timeoutSeconds", 1) < 3):
            said.append(f"{one.name}: is restarted after {_patience_s(live)} s of slow answers")
        if any(_waits_longer_than_its_period(one, kind) for kind in KINDS):
            said.append(f"{one.name}: a probe's timeout is longer than its period")
    return said


def _patience_s(probe: Object) -> int:
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


def _waits_longer_than_its_period(one: Container, kind: str) -> bool:
    probe = one.spec.get(kind, {})
    return bool(probe.get("timeoutSeconds", 1) > probe.get("periodSeconds", 10))
