"""What the processes are told: names that exist, values that are taken, secrets as files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from forebay.broker.management import TopologySettings
from forebay.errors import ConfigurationError
from forebay.settings import (
    SECRETS_DIR,
    BrokerSettings,
    CrashSettings,
    ProbeSettings,
    SettingsGroup,
    StoreSettings,
)
from forebay.store.initiation import InitiationSettings
from ingress.settings import AccessSettings, Authentication, IngressSettings
from tests.deploy.manifests.known_settings import (
    WORKERS,
    groups,
    in_container,
    is_known,
    is_secret,
    refused,
    variable,
)
from tests.deploy.manifests.made_secrets import keys_of_made_secrets
from tests.deploy.manifests.objects import (
    Container,
    containers,
    environment,
    label,
    source_name,
    sources,
    volumes,
)
from tests.deploy.manifests.rendering import Render

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what a container has to listen on


def sets_only_what_is_read(render: Render) -> list[str]:
    """A misspelled setting changes nothing and says nothing."""
    said = []
    for one in containers(render):
        names = {variable["name"] for variable in one.spec.get("env", [])}
        names |= set(environment(render, one))
        said += [f"{one.name}: nobody reads {name}" for name in _unread(names)]
    for config in render.of_kind("ConfigMap"):
        data = config.get("data") or {}
        said += [f"{label(config)}: nobody reads {name}" for name in _unread(data)]
    return said


def _unread(names: Iterable[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith("FOREBAY_") and not is_known(name)]


def arms_no_crash_point(render: Render) -> list[str]:
    """A setting for tests, by which a process kills itself."""
    said = []
    for one in containers(render):
        names = {variable["name"] for variable in one.spec.get("env", [])}
        names |= set(environment(render, one))
        said += [f"{one.name}: {name} kills it" for name in _deadly(names)]
    for config in render.of_kind("ConfigMap"):
        said += [f"{label(config)}: {name} kills" for name in _deadly(config.get("data") or {})]
    return said


def _deadly(names: Iterable[str]) -> list[str]:
    return sorted(
        {variable(CrashSettings, field) for field in CrashSettings.model_fields} & set(names)
    )


def sets_values_that_are_taken(render: Render) -> list[str]:
    """A process with a setting that makes no sense exits 2 at its start."""
    said = []
    for one in containers(render):
        if one.ours:
            env = environment(render, one)
            said += [f"{one.name}: {why}" for group in groups() for why in refused(group, env)]
    return said


def keeps_secrets_out_of_variables(render: Render) -> list[str]:
    """A setting that is a secret comes as a file."""
    return [
        f"{one.name}: {name} is a secret and must be a file"
        for one in containers(render)
        for name in environment(render, one)
        if is_secret(name)
    ]


def reads_secrets_where_they_are(render: Render) -> list[str]:
    """FOREBAY_SECRETS_DIR is where the secrets are mounted, read-only, and only for who reads."""
    said = []
    for one in containers(render):
        folder = environment(render, one).get(SECRETS_DIR, "").rstrip("/")
        if one.ours and folder:
            said += _mounted_badly(one, folder)
    return said


def _mounted_badly(one: Container, folder: str) -> list[str]:
    volume = volumes(one).get(folder)
    if volume is None or not sources(volume, "secret"):
        return [f"{one.name}: no secret is mounted at {folder}"]
    (mount,) = (
        mount for mount in one.spec["volumeMounts"] if mount["mountPath"].rstrip("/") == folder
    )
    said = []
    if not mount.get("readOnly"):
        said.append(f"{one.name}: {folder} is not mounted read-only")
    if "subPath" in mount:
        said.append(f"{one.name}: {folder} has a subPath and would never see a new secret")
    mode = (volume.get("secret") or volume.get("projected") or {}).get("defaultMode", 0o644)
    if not mode & 0o040 or not one.pod.spec.get("securityContext", {}).get("fsGroup"):
        said.append(f"{one.name}: its user cannot read the secrets at {folder}")
    return said


def mounts_files_that_are_settings(render: Render) -> list[str]:
    """A file in the secrets' folder is named like a setting, or nobody reads it."""
    said = []
    for one in containers(render):
        folder = environment(render, one).get(SECRETS_DIR, "").rstrip("/")
        for source in sources(volumes(one).get(folder, {}), "secret"):
            said += [
                f"{one.name}: {item['path']} of {source_name(source)} is no setting"
                for item in source.get("items", [])
                if not is_known(item["path"].upper())
            ]
    for secret in render.of_kind("Secret"):
        keys = [key.upper() for key in {**secret.get("data", {}), **secret.get("stringData", {})}]
        said += [f"{label(secret)}: nobody reads {name}" for name in _unread(keys)]
    return said


def is_given_what_it_needs(render: Render) -> list[str]:
    """Every setting without a default is a variable or a file of the process that needs it."""
    said = []
    for one in containers(render):
        given = set(environment(render, one)) | _files(render, one)
        for group in _read_by(one):
            said += [
                f"{one.name}: is not given {name}"
                for field, about in group.model_fields.items()
                if about.is_required() and (name := variable(group, field)) not in given
            ]
    return said


def _read_by(one: Container) -> tuple[type[SettingsGroup], ...]:
    """The groups with needed settings that a command reads."""
    if one.module in {*WORKERS, "ingress", "reconciler"}:
        return (BrokerSettings, StoreSettings)
    match one.words[:3]:
        case ["forebay", "topology", "apply"]:
            return (TopologySettings,)
        case ["forebay", "store", "apply"]:
            return (StoreSettings,)
        case ["forebay", "store", "initiate"]:
            return (InitiationSettings,)
    return ()


def _files(render: Render, one: Container) -> set[str]:
    """The variables that files in the secrets' folder stand for."""
    folder = environment(render, one).get(SECRETS_DIR, "").rstrip("/")
    found = set()
    for source in sources(volumes(one).get(folder, {}), "secret"):
        keys = keys_of_made_secrets().get(source_name(source), set())
        found |= {item["path"] for item in source["items"]} if "items" in source else keys
    return {name.upper() for name in found}


def listens_where_it_is_probed(render: Render) -> list[str]:
    """The port of the probes is the one the process opens, on an address the kubelet reaches."""
    said = []
    for one in containers(render):
        if not (one.ours and one.long_lived) or one.module is None:
            continue
        if one.module.startswith("loadtest."):
            host, ports = _simulated(one.words)
        elif one.module == "ingress":
            ingress = in_container(render, one, IngressSettings)
            host, ports = ingress.host, {ingress.port}
            access = in_container(render, one, AccessSettings)
            try:
                ingress.require_safe_address(access.authentication)
            except ConfigurationError as refused:
                said.append(f"{one.name}: it would refuse to start: {refused}")
        else:
            probes = in_container(render, one, ProbeSettings)
            host, ports = probes.probe_host, {probes.probe_port}
        if host != EVERYWHERE:
            said.append(f"{one.name}: listens on {host}")
        declared = {port["containerPort"] for port in one.spec.get("ports", [])}
        if declared != ports:
            said.append(f"{one.name}: declares {sorted(declared)}, listens on {sorted(ports)}")
    return said


def asks_for_keys_in_production(render: Render) -> list[str]:
    """What is meant for real work lets nobody in without an API key."""
    return [
        f"{one.name}: whoever reaches it may use it"
        for one in containers(render)
        if one.module == "ingress"
        and "production" in render.name
        and (
            in_container(render, one, IngressSettings).allow_open
            or in_container(render, one, AccessSettings).authentication is not Authentication.KEYS
        )
    ]


def _simulated(words: list[str]) -> tuple[str, set[int]]:
    """What `python -m loadtest.providers` is told, as `--port 1` or `--port=1`."""
    words = [part for word in words for part in word.split("=", 1)]
    options = dict(itertools.pairwise(words))
    ports = {int(options[name]) for name in ("--port", "--site-port") if name in options}
    return options.get("--host", "127.0.0.1"), ports


_URL = re.compile(r"(https?)://([a-z0-9-]+)(?::(\d+))?(?:/|$)")
_PAIR = re.compile(r"(?:^|,)([a-z0-9-]+):(\d+)")


def names_services_that_exist(render: Render) -> list[str]:
    """A setting that points into the cluster points to a Service, at a port that it has."""
    said = []
    for one in containers(render):
        for name, value in environment(render, one).items():
            said += [
                f"{one.name}: {name} names {host}:{port}, which no Service has"
                for host, port in _named(value)
                if not _is_served(render, host, port)
            ]
    return said


def _named(value: str) -> list[tuple[str, int]]:
    """Hosts without a dot, which only a cluster knows, and their ports."""
    urls = [(host, int(port or 80)) for _, host, port in _URL.findall(value)]
    return urls or [(host, int(port)) for host, port in _PAIR.findall(value)]


def _is_served(render: Render, host: str, port: int) -> bool:
    service = render.find("Service", host)
    return service is not None and port in {one["port"] for one in service["spec"]["ports"]}
