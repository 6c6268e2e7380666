"""A container of a pod as the request that Docker is asked with, field by field from the YAML."""

from __future__ import annotations

from typing import Any

from .environment import expand, quantity
from .objects import Manifest, NotEmulated, only
from .sandbox import LABELS, Sandbox
from .volumes import TOKEN_PATH, TOKEN_VOLUME

_KNOWN = {
    "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe",
    "name", "ports", "readinessProbe", "resources", "securityContext", "startupProbe",
    "terminationMessagePath", "terminationMessagePolicy", "volumeMounts", "workingDir",
}  # fmt: skip
_KNOWN_SECURITY = {
    "allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem",
    "runAsGroup", "runAsNonRoot", "runAsUser", "seccompProfile",
}  # fmt: skip
_KNOWN_POD_SECURITY = {
    "fsGroup", "fsGroupChangePolicy", "runAsGroup", "runAsNonRoot", "runAsUser",
    "seccompProfile", "supplementalGroups",
}  # fmt: skip


def docker_container(
    spec: Manifest, container: Manifest, env: dict[str, str], sandbox: Sandbox
) -> dict[str, Any]:
    """The body of Docker's create call."""
    only(_KNOWN, container, f"container {container['name']}")
    pod_context = spec.get("securityContext", {})
    only(_KNOWN_POD_SECURITY, pod_context, "pod securityContext")
    context = {**pod_context, **container.get("securityContext", {})}
    body: dict[str, Any] = {
        "Image": container["image"],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": LABELS,
        "HostConfig": {
            "NetworkMode": f"container:{sandbox.holder}",
            "LogConfig": {"Type": "json-file"},
            "Mounts": [_mount(m, sandbox) for m in _mounts(container, sandbox)],
            "ReadonlyRootfs": bool(context.get("readOnlyRootFilesystem")),
            **_resources(container),
            **_rights(context, container),
        },
    }
    groups = [context.get("fsGroup"), *pod_context.get("supplementalGroups", [])]
    body["HostConfig"]["GroupAdd"] = [str(group) for group in groups if group is not None]
    user = _user(context, container["name"])
    if user is not None:
        body["User"] = user
    if "command" in container:
        body["Entrypoint"] = [expand(word, env) for word in container["command"]]
        body["Cmd"] = []
    if "args" in container:
        body["Cmd"] = [expand(word, env) for word in container["args"]]
    if "workingDir" in container:
        body["WorkingDir"] = container["workingDir"]
    return body


def _user(context: Manifest, name: str) -> str | None:
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    if context.get("runAsNonRoot") and user == 0:
        raise AssertionError(f"{name}: runAsNonRoot and uid 0")
    if user is None:
        return None
    # Without a group kubelet takes the image's, which for a bare uid is 0; Docker does the same.
    return str(user) if group is None else f"{user}:{group}"


def _rights(context: Manifest, container: Manifest) -> dict[str, Any]:
    only(_KNOWN_SECURITY, container.get("securityContext", {}), "securityContext")
    if context.get("privileged"):
        raise NotEmulated("privileged")
    capabilities = context.get("capabilities", {})
    options = []
    if context.get("allowPrivilegeEscalation") is False:
        options.append("no-new-privileges")
    # Docker's default profile is what RuntimeDefault is; kubelet's own default is none.
    profile = context.get("seccompProfile", {}).get("type", "Unconfined")
    if profile == "Unconfined":
        options.append("seccomp=unconfined")
    elif profile != "RuntimeDefault":
        raise NotEmulated(f"seccomp {profile}")
    return {
        "CapDrop": capabilities.get("drop", []),
        "CapAdd": capabilities.get("add", []),
        "SecurityOpt": options,
    }


def _resources(container: Manifest) -> dict[str, Any]:
    resources = container.get("resources", {})
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    found: dict[str, Any] = {}
    if "memory" in limits:
        found["Memory"] = found["MemorySwap"] = quantity(str(limits["memory"]))
    if "cpu" in limits:
        found["NanoCpus"] = int(_cores(limits["cpu"]) * 1e9)
    # kubelet's rule: 1024 shares for a whole core that was asked for, and 2 for none.
    found["CpuShares"] = max(int(_cores(requests.get("cpu", 0)) * 1024), 2)
    return found


def _cores(given: str | float) -> float:
    text = str(given)
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _mounts(container: Manifest, sandbox: Sandbox) -> list[Manifest]:
    token = {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True}
    return [*container.get("volumeMounts", []), *([token] if sandbox.has_token else [])]


def _mount(mount: Manifest, sandbox: Sandbox) -> dict[str, Any]:
    only({"mountPath", "name", "readOnly", "subPath"}, mount, "volumeMount")
    if "subPath" in mount:
        raise NotEmulated("subPath: Docker 20.10 cannot mount a part of a volume")
    volume = sandbox.volumes[mount["name"]]
    return {
        "Type": "volume",
        "Source": volume.docker_name,
        "Target": mount["mountPath"],
        "ReadOnly": bool(mount.get("readOnly")) or volume.read_only,
        # Docker would copy what the image has at that path, with its owner; kubelet does not.
        "VolumeOptions": {"NoCopy": True},
    }
