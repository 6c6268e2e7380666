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


def _env_file(path: str) -> dict[str, str]:
    return dict(re.findall(r"^(FOREBAY_\w+)=(.*)$", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", ["base/forebay.env", "overlays/local/simulated.env"])
def test_it_says_the_same_as_the_manifests(path: str) -> None:
    ours = compose()["services"]["llm_worker"]["environment"]
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
    env = compose()["services"]["llm_worker"]["environment"]
    longest = max(float(env[f"FOREBAY_{kind}_GRACE_S"]) for kind in rules.KINDS.values())
    assert int(_conf("consumer_timeout")) > 2 * longest * 1000


def test_the_broker_has_what_is_needed_and_nobody_is_guest() -> None:
    plugins = (ROOT / "deploy" / "rabbitmq" / "enabled_plugins").read_text()
    assert plugins == "[rabbitmq_management,rabbitmq_prometheus].\n"
    assert not re.search(r"guest|default_pass|default_user =", re.sub("#.*", "", CONF))
