"""compose.yaml as a text: valid, and by our own rules. Each rule is shown a breach as well."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.compose import rules
from tests.deploy.compose.resolved import ROOT, compose
from tests.deploy.manifests.known_settings import is_secret, known

CONF = (ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text()
MB, MIB = 1_000_000, 1_048_576


def test_it_is_valid_by_the_schema_of_compose() -> None:
    command = [
        Path(sys.executable).parent / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
    ]
    ended = subprocess.run(
        [*command, ROOT / "compose.yaml"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_file_keeps_the_rule(rule: rules.Rule) -> None:
    assert not rule(compose())


def _set(service: str, *path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def plant(found: dict[str, Any]) -> None:
        place = found["services"][service]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return plant


def _drop(service: str, *path: str) -> Callable[[dict[str, Any]], None]:
    def plant(found: dict[str, Any]) -> None:
        place = found["services"][service]
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return plant


BREACHES = [
    (rules.floating_image, _set("ingress", "image", value="forebay:latest")),
    (rules.floating_image, _set("mongodb", "image", value="mongo")),
    (rules.floating_image, _set("mongodb", "image", value="registry.example.com/mongo:8.0")),
    (rules.unknown_setting, _set("ingress", "environment", "FOREBAY_INGRES_PORT", value="1")),
    (
        rules.armed_process,
        _set("llm_worker", "environment", "FOREBAY_CRASHPOINT", value="worker.after_claim"),
    ),
    (
        rules.impatient_worker,
        _set("llm_worker", "environment", "FOREBAY_LLM_TIMEOUT_S", value="600"),
    ),
    (rules.impatient_worker, _set("llm_worker", "environment", "FOREBAY_LLM_GRACE_S", value="300")),
    (rules.impatient_worker, _set("search_worker", "stop_grace_period", value="1m5s")),
    (rules.soft_container, _set("rabbitmq", "read_only", value=False)),
    (rules.soft_container, _drop("providers", "cap_drop")),
    (rules.soft_container, _drop("load", "mem_limit")),
    (rules.root_user, _drop("mongodb", "user")),
    (rules.root_user, _drop("secrets", "network_mode")),
    (rules.open_port, _set("rabbitmq", "ports", value=[{"published": "5672", "target": 5672}])),
    (rules.unwatched, _drop("reconciler", "healthcheck")),
    (rules.unwatched, _drop("rabbitmq", "restart")),
    (rules.starts_too_early, _drop("reconciler", "depends_on", "indexes")),
    (
        rules.password_inside,
        _set("ingress", "environment", "FOREBAY_MONGODB_URL", value="mongodb://h/"),
    ),
    (
        rules.password_inside,
        _set("grafana", "environment", "GF_SECURITY_ADMIN_PASSWORD", value="x"),
    ),
    (rules.password_inside, _set("load", "command", value=["--host", "http://a:b@ingress"])),
    (
        rules.shared_secrets,
        _set(
            "providers",
            "volumes",
            value=[{"source": "worker-secrets", "target": "/s", "read_only": True}],
        ),
    ),
    (
        rules.shared_secrets,
        _set("ingress", "volumes", value=[{"source": "ingress-secrets", "target": "/s"}]),
    ),
    (
        rules.anothers_settings,
        _set("reconciler", "environment", "FOREBAY_LLM_OPENAI_API_KEY", value="simulated"),
    ),
    (
        rules.anothers_settings,
        _set("crawler_worker", "environment", "FOREBAY_SEARCH_BRAVE_API_KEY", value="simulated"),
    ),
    (
        rules.anothers_settings,
        _set("load", "environment", "FOREBAY_CRAWLER_FIRECRAWL_API_KEY", value="simulated"),
    ),
    (rules.uneven_setting, _drop("ingress", "environment", "FOREBAY_CRAWLER_ALLOW_HOSTS")),
    (
        rules.uneven_setting,
        _set("reconciler", "environment", "FOREBAY_LOG_LEVEL", value="debug"),
    ),
]


@pytest.mark.parametrize(("rule", "plant"), BREACHES, ids=lambda one: getattr(one, "__name__", "-"))
def test_a_breach_of_the_rule_is_seen(
    rule: rules.Rule, plant: Callable[[dict[str, Any]], None]
) -> None:
    planted = compose()
    plant(planted)
    assert rule(planted)


def test_every_rule_is_shown_a_breach() -> None:
    assert {rule for rule, _ in BREACHES} == set(rules.RULES)


def _provider_keys() -> dict[str, str]:
    """Every provider key there is, each with a worker that it is for."""
    return {
        name: worker
        for worker, kind in rules.KINDS.items()
        for name in known()
        if name.startswith(f"FOREBAY_{kind}_") and is_secret(name)
    }


def test_a_real_key_reaches_the_worker_that_it_is_for_and_nobody_else(tmp_path: Path) -> None:
    """Nor a simulator: a folder of one's own takes the place of all simulated addresses."""
    owners = _provider_keys()
    assert set(owners.values()) == set(rules.KINDS) - {"webhook_worker"}  # it calls no provider
    files = {worker: f"{kind.lower()}.env" for worker, kind in rules.KINDS.items()}
    (tmp_path / "all.env").touch()
    for worker, file in files.items():
        keys = [f"{name}=key-of-{worker}" for name, owner in owners.items() if owner == worker]
        (tmp_path / file).write_text("\n".join(keys))
    services = compose(FOREBAY_ENV=str(tmp_path))["services"]
    for worker in files:
        readers = {one for one in services if f"key-of-{worker}" in str(services[one])}
        assert readers == {worker} & set(owners.values())
        assert "http://providers" not in str(services[worker]["environment"])


@pytest.mark.parametrize("ours", [".env", "ours/"])
def test_files_with_keys_are_not_put_into_the_repository(ours: str) -> None:
    """`ours` is what docs/deploy.md calls a reader's own folder."""
    assert ours in (ROOT / ".gitignore").read_text().splitlines()


def _of_workers() -> dict[str, str]:
    """The variables of all workers; none has two values."""
    services = compose()["services"]
    found: dict[str, str] = {}
    for name in rules.KINDS:
        env = services[name]["environment"]
        assert {key: found[key] for key in env.keys() & found.keys()}.items() <= env.items()
        found |= env
    return found


def _env_file(path: str) -> dict[str, str]:
    return dict(re.findall(r"^(FOREBAY_\w+)=(.*)$", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", ["base/forebay.env", "overlays/local/simulated.env"])
def test_it_says_the_same_as_the_manifests(path: str) -> None:
    ours = _of_workers()
    theirs = _env_file(f"deploy/k8s/{path}")
    shared = theirs.keys() & ours.keys()
    assert len(shared) > 8
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_the_store_is_where_the_urls_say() -> None:
    services = compose()["services"]
    members = services["mongodb-initiate"]["environment"]["FOREBAY_MONGODB_MEMBERS"]
    assert members.partition(":")[0] in services["mongodb"]["networks"]["default"]["aliases"]


def _conf(key: str) -> str:
    (value,) = re.findall(rf"^{re.escape(key)} = (.*)$", CONF, re.MULTILINE)
    return str(value)


def test_the_broker_blocks_publishers_before_its_container_is_full() -> None:
    mark = _conf("vm_memory_high_watermark.absolute")
    assert mark.endswith("MB")
    limit = int(compose()["services"]["rabbitmq"]["mem_limit"])
    assert limit >= 1.5 * int(mark.removesuffix("MB")) * MB
    assert int(_conf("raft.wal_max_size_bytes")) <= 128 * MIB


def test_the_broker_waits_longer_for_an_acknowledgement_than_any_call_takes() -> None:
    env = _of_workers()
    longest = max(float(env[f"FOREBAY_{kind}_GRACE_S"]) for kind in rules.KINDS.values())
    assert int(_conf("consumer_timeout")) > 2 * longest * 1000


def test_the_broker_has_what_is_needed_and_nobody_is_guest() -> None:
    plugins = (ROOT / "deploy" / "rabbitmq" / "enabled_plugins").read_text()
    assert plugins == "[rabbitmq_management,rabbitmq_prometheus].\n"
    assert not re.search(r"guest|default_pass|default_user =", re.sub("#.*", "", CONF))
