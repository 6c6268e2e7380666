"""A pod's volumes as Docker volumes, with the content, modes and owners that kubelet gives them.

The pod's holder container has all of them mounted under /pod and is where they are written and
owned, so that nothing here needs to be root and the daemon need not share this machine's files.
Each file is written once, at the pod's start; changed ConfigMaps and Secrets do not arrive later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .engine import Engine, File
from .environment import MissingReference, PodFacts, field_value, quantity
from .objects import Manifest, NotEmulated, Objects, only

ROOT = "/pod"
TOKEN_VOLUME = "service-account"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_FILE_MODE = 0o644
_DISK = "emptyDir"
_TOKEN = "serviceAccountToken"
_READ_ONLY = ("configMap", "secret", "projected", "downwardAPI")


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume of one pod: its Docker volume, and what is to be written into it."""

    name: str
    kind: str
    source: Manifest
    docker_name: str
    keeps: bool
    """It outlives the pod (a claim of a StatefulSet)."""

    @property
    def read_only(self) -> bool:
        """Whether containers may only read it, whatever they ask for."""
        return self.kind in _READ_ONLY

    def as_docker(self) -> dict[str, Any]:
        """How the daemon is asked to make it."""
        made: dict[str, Any] = {"Name": self.docker_name, "Labels": {"forebay-pods": "1"}}
        if self._in_memory:
            limit = self.source.get("sizeLimit")
            size = f",size={quantity(str(limit))}" if limit else ""
            options = {"type": "tmpfs", "device": "tmpfs", "o": f"mode=0777{size}"}
            made |= {"Driver": "local", "DriverOpts": options}
        return made

    @property
    def _in_memory(self) -> bool:
        # kubelet keeps secrets and tokens in memory; a ConfigMap may be on disk, which no test sees
        return self.read_only or self.source.get("medium") == "Memory"


def volumes_of(spec: Manifest, pod: str, prefix: str, claims: dict[str, str]) -> list[Volume]:
    """The pod's volumes; `claims` is the Docker volume of each claim template."""
    found = []
    for entry in spec.get("volumes", []):
        (kind, source), *rest = ((k, v) for k, v in entry.items() if k != "name")
        if rest or kind not in {*_READ_ONLY, _DISK}:
            raise NotEmulated(f"volume {entry}")
        name = f"{prefix}-{pod}-{entry['name']}"
        found.append(Volume(entry["name"], kind, source or {}, name, keeps=False))
    for name, docker_name in claims.items():
        found.append(Volume(name, "claim", {}, docker_name, keeps=True))
    return found


def files_of(
    volume: Volume, objects: Objects, facts: PodFacts, account: Mapping[str, bytes]
) -> dict[str, File]:
    """The files of a volume by path. Raises `MissingReference` when something is not there yet."""
    default = int(volume.source.get("defaultMode", _FILE_MODE))
    if volume.kind == "projected":
        found: dict[str, File] = {}
        for source in volume.source["sources"]:
            (kind, what), *_ = source.items()
            if kind == _TOKEN:
                found[what["path"]] = File(what["path"], account["token"], default)
            else:
                found |= _from(kind, what, default, objects, facts)
        return found
    if volume.kind in _READ_ONLY:
        return _from(volume.kind, volume.source, default, objects, facts)
    return {}


def _from(
    kind: str, what: Manifest, mode: int, objects: Objects, facts: PodFacts
) -> dict[str, File]:
    if kind == "downwardAPI":
        return {
            item["path"]: File(
                item["path"], field_value(item["fieldRef"]["fieldPath"], facts).encode(), mode
            )
            for item in what["items"]
        }
    only({"name", "secretName", "items", "optional", "defaultMode"}, what, kind)
    api_kind = {"configMap": "ConfigMap", "secret": "Secret"}[kind]
    name = what.get("secretName") or what["name"]
    keys = objects.keys(api_kind, name)
    if keys is None:
        if what.get("optional"):
            return {}
        raise MissingReference(f"{api_kind} {name}")
    items = what.get("items") or [{"key": key, "path": key} for key in keys]
    return dict(_item(item, keys, mode, f"{api_kind} {name}") for item in items
                if item["key"] in keys or not what.get("optional"))  # fmt: skip


def _item(item: Manifest, keys: dict[str, bytes], mode: int, where: str) -> tuple[str, File]:
    if item["key"] not in keys:
        raise MissingReference(f"{where}/{item['key']}")
    path = item["path"]
    return path, File(path, keys[item["key"]], int(item.get("mode", mode)))


async def fill(
    engine: Engine, holder: str, volume: Volume, files: dict[str, File], spec: Manifest
) -> None:
    """Write the files and give them to the pod's fsGroup, as kubelet does before any container.

    With an fsGroup, kubelet widens the mode for the group too (0400 becomes 0440): that is what a
    server that insists on its key file being its own meets in a cluster.
    """
    at = f"{ROOT}/{volume.name}"
    context = spec.get("securityContext", {})
    folders = sorted({path.rpartition("/")[0] for path in files} - {""})
    commands = [f"mkdir -p {at}/{folder}" for folder in folders]
    if not volume.keeps:
        commands.append(f"chmod 0777 {at}")
    await _shell(engine, holder, commands)
    if files:
        await engine.put(holder, at, files.values())
    await _shell(engine, holder, _owning(volume, at, context))


def _owning(volume: Volume, at: str, context: Manifest) -> list[str]:
    group = context.get("fsGroup")
    if group is None:
        return []
    bits = "r" if volume.read_only else "rw"
    change = (
        f"find {at} -exec chgrp {group} {{}} + ; "
        f"find {at} -type d -exec chmod g+{bits}xs {{}} + ; "
        f"find {at} -type f -exec chmod u+{bits},g+{bits} {{}} +"
    )
    if context.get("fsGroupChangePolicy") == "OnRootMismatch" and volume.keeps:
        fits = (
            f'test "$(stat -c %g {at})" = {group} && test -n "$(find {at} -maxdepth 0 -perm -2070)"'
        )
        return [f"if {fits}; then :; else {change}; fi"]
    return [change]


async def _shell(engine: Engine, holder: str, commands: list[str]) -> None:
    if not commands:
        return
    code, said = await engine.run(holder, ["sh", "-c", " && ".join(commands)], user="0")
    if code != 0:
        raise AssertionError(f"the volume could not be made: {said}")
