"""The rules of compose.yaml, each a function from the resolved file to what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.deploy.manifests.known_settings import is_known, is_secret, known

Compose = Mapping[str, Any]
Rule = Callable[[Compose], list[str]]

KINDS = {
    "search_worker": "SEARCH",
    "crawler_worker": "CRAWLER",
    "llm_worker": "LLM",
    "webhook_worker": "WEBHOOK",
}
PROCESSES = (*KINDS, "ingress", "reconciler")
AFTER_CALL_S, AFTER_GRACE_S = 5.0, 20.0
"""The grace period is longer than the longest call by the first, the container's by the second."""
SIMULATED = "simulated"
"""The word that the simulators take for a key; it opens nothing."""


def _services(compose: Compose) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from compose["services"].items()


def _once(service: Mapping[str, Any]) -> bool:
    return str(service.get("restart", "")).startswith("on-failure")


def _env(service: Mapping[str, Any]) -> Mapping[str, str]:
    return service.get("environment") or {}


def seconds(text: str) -> float:
    """A duration as compose writes it, in seconds: `1m25s`."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(count) * units[unit] for count, unit in re.findall(r"([\d.]+)([hms])", text))


def floating_image(compose: Compose) -> list[str]:
    """An image without a version, with a version that moves, or with a registry's host."""
    return [
        f"{name}: {service['image']}"
        for name, service in _services(compose)
        if not re.fullmatch(r"([a-z0-9-]+/)?[a-z0-9-]+:v?\d+\.[\w.-]+", service["image"])
    ]


def unknown_setting(compose: Compose) -> list[str]:
    """A variable of ours that no process reads."""
    return [
        f"{name}: {variable}"
        for name, service in _services(compose)
        for variable in _env(service)
        if variable.startswith("FOREBAY_") and name != "load" and not is_known(variable)
    ]


def armed_process(compose: Compose) -> list[str]:
    """A process that is told to kill itself, as only a test does."""
    return [
        f"{name}: {variable}"
        for name, service in _services(compose)
        for variable in _env(service)
        if variable.startswith("FOREBAY_CRASHPOINT")
    ]


def impatient_worker(compose: Compose) -> list[str]:
    """A worker that is killed before its longest call could end."""
    broken = []
    for name, kind in KINDS.items():
        service = compose["services"][name]
        longest = float(_env(service)[f"FOREBAY_{kind}_TIMEOUT_S"])
        grace = float(_env(service)[f"FOREBAY_{kind}_GRACE_S"])
        if grace < longest + AFTER_CALL_S:
            broken.append(f"{name}: {grace} s of grace for calls of {longest} s")
        if seconds(service["stop_grace_period"]) < grace + AFTER_GRACE_S:
            broken.append(f"{name}: killed after {service['stop_grace_period']}")
    return broken


def soft_container(compose: Compose) -> list[str]:
    """A container with more rights than it needs, or without a bound on its memory."""
    wanted = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    return [
        f"{name}: {key}"
        for name, service in _services(compose)
        for key, value in wanted.items()
        if service.get(key) != value
    ] + [f"{name}: memory" for name, service in _services(compose) if not service.get("mem_limit")]


def root_user(compose: Compose) -> list[str]:
    """Root in a container. `secrets` is: new volumes are root's, and it reaches no network."""
    return [
        name
        for name, service in _services(compose)
        if str(service.get("user", "0")).startswith("0")
        and not (name == "secrets" and service.get("network_mode") == "none")
    ]


def open_port(compose: Compose) -> list[str]:
    """A port that other machines reach: nobody is asked for a key."""
    return [
        f"{name}: {port.get('published')}"
        for name, service in _services(compose)
        for port in service.get("ports") or ()
        if port.get("host_ip") != "127.0.0.1"
    ]


def unwatched(compose: Compose) -> list[str]:
    """What stays and has no health check, or is not started again; what does not and has one."""
    return [
        name
        for name, service in _services(compose)
        if name != "load"
        and (
            _once(service) or service.get("restart") == "unless-stopped",
            bool(service.get("healthcheck")),
        )
        != (True, not _once(service))
    ]


def starts_too_early(compose: Compose) -> list[str]:
    """A process that does not wait for its queues and indexes."""
    wanted = {"topology", "indexes"}
    return [
        name
        for name in PROCESSES
        if {
            other
            for other, how in (compose["services"][name].get("depends_on") or {}).items()
            if how["condition"] == "service_completed_successfully"
        }
        != wanted
    ]


def password_inside(compose: Compose) -> list[str]:
    """A secret in the file itself."""
    return [
        f"{name}: {variable}"
        for name, service in _services(compose)
        for variable, value in _env(service).items()
        if (is_secret(variable) or re.search(r"PASSW|SECRET_|TOKEN$", variable))
        and value not in {"", SIMULATED}
    ] + [
        f"{name}: a URL with a login"
        for name, service in _services(compose)
        if re.search(r"://[^/\s\"]*:[^/\s\"]*@", str(service))
    ]


def shared_secrets(compose: Compose) -> list[str]:
    """A volume of secrets that is mounted by somebody of another role, or writable."""
    readers: dict[str, set[str]] = {}
    broken = []
    for name, service in _services(compose):
        for volume in service.get("volumes") or ():
            if "secrets" in str(volume.get("source")) and name != "secrets":
                readers.setdefault(volume["source"], set()).add(name)
                if not volume.get("read_only"):
                    broken.append(f"{name} may write {volume['source']}")
    allowed = {
        "ingress-secrets": {"ingress"},
        "worker-secrets": set(KINDS),
        "reconciler-secrets": {"reconciler"},
        "prepare-secrets": {"topology", "indexes"},
        "mongodb-secrets": {"mongodb", "mongodb-initiate"},
        "rabbitmq-secrets": {"rabbitmq"},
    }
    return broken + [
        f"{volume}: {', '.join(sorted(who))}"
        for volume, who in readers.items()
        if who != allowed.get(volume)
    ]


def _reader(variable: str) -> str:
    """The process that alone reads a setting; `forebay` when it is for all of them."""
    return known()[variable][0].__module__.partition(".")[0] if variable in known() else ""


def anothers_settings(compose: Compose) -> list[str]:
    """A worker's own settings, its provider keys among them, where that worker does not run."""
    return [
        f"{name}: {variable}"
        for name, service in _services(compose)
        for variable in _env(service)
        if _reader(variable) in KINDS and _reader(variable) != name
    ]


def uneven_setting(compose: Compose) -> list[str]:
    """A setting for all processes that only some are told, or that they are told differently."""
    told = {name: _env(compose["services"][name]) for name in PROCESSES}
    shared = {one for env in told.values() for one in env if _reader(one) == "forebay"}
    return [one for one in sorted(shared) if len({env.get(one) for env in told.values()}) != 1]


RULES: tuple[Rule, ...] = (
    floating_image,
    unknown_setting,
    armed_process,
    impatient_worker,
    soft_container,
    root_user,
    open_port,
    unwatched,
    starts_too_early,
    password_inside,
    shared_secrets,
    anothers_settings,
    uneven_setting,
)
