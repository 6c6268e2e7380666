from __future__ import annotations

from pathlib import Path

import pytest

from forebay.local.environment import (
    PROBED,
    Addresses,
    Crew,
    Told,
    World,
    kept_passwords,
    with_login,
)
from forebay.local.ports import Ports
from forebay.local.servers import Origin, Servers

_PASSWORDS = {role: f"{role}-canary" for role in ("ingress", "worker", "reconciler", "monitor")}


def _told(management_url: str = "http://admin:pw@127.0.0.1:15672", **extra: str) -> Told:
    found = Servers("amqp://admin:pw@127.0.0.1:5672/", management_url, "mongodb://m/", Origin.URLS)
    addresses = Addresses.choose(Ports(lambda _: None))
    return Told(
        found, addresses, {"search": 1, "crawl": 2, "llm": 3, "webhook": 4}, extra, _PASSWORDS
    )


def test_each_process_logs_in_by_its_role():
    told = _told()
    specs = [*told.ingresses(), *told.probed()]
    users = {spec.name: spec.env["FOREBAY_AMQP_URL"] for spec in specs}
    assert users == {
        "ingress": "amqp://forebay-ingress:ingress-canary@127.0.0.1:5672/forebay",
        "search_worker": "amqp://forebay-worker:worker-canary@127.0.0.1:5672/forebay",
        "crawler_worker": "amqp://forebay-worker:worker-canary@127.0.0.1:5672/forebay",
        "llm_worker": "amqp://forebay-worker:worker-canary@127.0.0.1:5672/forebay",
        "webhook_worker": "amqp://forebay-worker:worker-canary@127.0.0.1:5672/forebay",
        "reconciler": "amqp://forebay-reconciler:reconciler-canary@127.0.0.1:5672/forebay",
    }


def test_without_a_management_api_the_given_broker_url_is_used_as_it_is():
    told = _told(management_url="")
    assert told.ingresses()[0].env["FOREBAY_AMQP_URL"] == "amqp://admin:pw@127.0.0.1:5672/"


def test_settings_of_the_caller_win_over_those_of_the_stack():
    told = _told(FOREBAY_LLM_CONCURRENCY="99", FOREBAY_SEARCH_PROVIDER="brave")
    assert told.concurrency_in_force() == {"search": 1, "crawl": 2, "llm": 99, "webhook": 4}
    assert told.probed()[0].env["FOREBAY_SEARCH_PROVIDER"] == "brave"


def test_only_the_topology_step_gets_the_administrators_login():
    told = _told()
    specs = [*told.ingresses(), *told.probed(), told.providers(World(), Path("calls"))]
    assert not any("admin:pw" in value for spec in specs for value in spec.env.values())
    env = told.topology().env
    assert env["FOREBAY_RABBITMQ_MANAGEMENT_URL"] == "http://admin:pw@127.0.0.1:15672"
    assert env["FOREBAY_TOPOLOGY_MONITOR_PASSWORD"] == "monitor-canary"


def test_every_worker_listens_on_a_probe_port_of_its_own():
    ports = {spec.env["FOREBAY_PROBE_PORT"] for spec in _told().probed()}
    assert len(ports) == len(PROBED) == 5


def test_copies_of_a_process_differ_in_name_and_port_only():
    addresses = Addresses.choose(Ports(lambda _: None), Crew({"ingress": 2, "reconciler": 3}))
    found = Servers("amqp://a:b@h/", "", "mongodb://m/", Origin.URLS)
    told = Told(found, addresses, {"search": 1, "crawl": 2, "llm": 3, "webhook": 4}, {}, _PASSWORDS)
    specs = {spec.name: spec for spec in [*told.ingresses(), *told.probed()]}
    assert [name for name in specs if "ingress" in name] == ["ingress", "ingress-2"]
    crew = [specs[name] for name in ("reconciler", "reconciler-2", "reconciler-3")]
    assert len({spec.ready_url for spec in crew}) == 3
    assert len({spec.command for spec in crew}) == 1
    ports = {spec.env.get("FOREBAY_INGRESS_PORT") for spec in told.ingresses()}
    assert len(ports) == 2


def test_passwords_are_not_shown():
    told = _told()
    assert "canary" not in repr(told)
    assert "canary" not in repr(told.ingresses())


def test_passwords_are_random_kept_and_private(tmp_path: Path):
    path = tmp_path / "data" / "passwords.json"
    first = kept_passwords(path)
    assert kept_passwords(path) == first
    assert len(set(first.values())) == 4
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("user", "url"), [("a", "amqp://a:b@h:1/v"), ("", "amqp://h:1/v")], ids=["login", "no login"]
)
def test_a_login_is_replaced(user: str, url: str):
    assert with_login("amqp://x:y@h:1/", user, "b", "/v") == url
