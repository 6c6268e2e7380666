"""Who may speak to whom, by the policies that are rendered: what is needed, and nothing more."""

from __future__ import annotations

import ipaddress

import pytest

from forebay.addresses import DEFAULT_PORTS
from tests.deploy.manifests.flows import needed, operated
from tests.deploy.manifests.network import End, Flow, allowed, ends, outside, policies, stranger
from tests.deploy.manifests.planted.mistake import SERIOUS, TRY_OUT
from tests.deploy.manifests.rendering import Render, render
from tests.deploy.manifests.workbench import Workbench, changed

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports

BOTH = [TRY_OUT, SERIOUS]
WORKERS = ["search-worker", "crawler-worker", "llm-worker", "webhook-worker"]
GUARDED = ["crawler-worker", "webhook-worker"]
"""Who calls what callers name, behind the address guard."""
PROCESSES = ["ingress", "reconciler", *WORKERS]
PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
PRIVATE = [
    "0.0.0.1",
    "10.0.0.1",
    "10.96.0.1",  # the Kubernetes API of most clusters
    "10.244.3.3",  # some pod
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "127.0.0.1",
    "168.63.129.16",  # a cloud's metadata
    "169.254.169.254",  # the clouds' metadata
    "169.254.20.10",
    "172.16.0.1",
    "172.31.255.254",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",  # 10.0.0.1 behind a translator
    "2001::1",  # tunnels
    "2002:a00:1::1",  # 10.0.0.1 behind another
    "fd00::1",
    "fd00:ec2::254",  # a cloud's metadata
    "fe80::1",
    "ff02::1",
]


def passes(where: Render, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    return allowed(policies(where), Flow(source, target, port, protocol))


def part(where: Render, component: str) -> End:
    return ends(where)[component]


@pytest.mark.parametrize("name", BOTH)
def test_every_connection_that_settings_and_secrets_name_is_allowed(name: str) -> None:
    where = render(name)
    flows = needed(where)
    shut = [str(flow) for flow in flows if not allowed(policies(where), flow)]
    assert not shut
    assert len(flows) >= (16 if name == TRY_OUT else 12)


def test_the_connections_that_are_found_are_those_of_the_try_out() -> None:
    found = {str(flow) for flow in needed(render(TRY_OUT))}
    assert {f"{one} -> rabbitmq:5672/TCP" for one in PROCESSES} <= found
    assert {f"{one} -> mongodb:27017/TCP" for one in PROCESSES} <= found
    assert {f"{one} -> providers:9080/TCP" for one in WORKERS} <= found
    assert "crawler-worker -> providers:9081/TCP" in found
    assert "search-worker -> providers:9081/TCP" not in found
    assert any("prepare" in flow and "rabbitmq:15672" in flow for flow in found)
    assert any("initiate" in flow and "mongodb:27017" in flow for flow in found)


@pytest.mark.parametrize("name", BOTH)
def test_every_pod_that_looks_names_up_reaches_the_name_server(name: str) -> None:
    where = render(name)
    for names in (stranger("kube-system"), outside("169.254.20.10")):  # the latter on the node
        for component in [*PROCESSES, "prepare"]:
            source = part(where, component)
            assert passes(where, source, names, 53, "UDP"), (component, names.name)
            assert passes(where, source, names, 53), (component, names.name)
            for port in (80, 443):
                assert not passes(where, source, names, port), (component, names.name)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("address", PUBLIC)
def test_workers_reach_the_world(name: str, address: str) -> None:
    where = render(name)
    for component in WORKERS:
        allowed_ports = DEFAULT_PORTS if component in GUARDED else {443}
        for port in DEFAULT_PORTS | {22, 25, 5672, 8000, 27017}:
            reached = passes(where, part(where, component), outside(address), port)
            assert reached is (port in allowed_ports), (component, port)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("address", PRIVATE)
def test_no_worker_reaches_a_private_address(name: str, address: str) -> None:
    where = render(name)
    for component in WORKERS:
        for port in (80, 443, 6443, 8080, 10250):
            source = part(where, component)
            assert not passes(where, source, outside(address), port), (component, port)


def test_the_private_addresses_are_those_that_python_knows_as_not_global() -> None:
    known = {"::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "168.63.129.16", "192.0.0.192"}
    for address in set(PRIVATE) - known:
        one = ipaddress.ip_address(address)
        assert not one.is_global or one.is_multicast, address
    assert all(ipaddress.ip_address(address).is_global for address in PUBLIC)


@pytest.mark.parametrize("name", BOTH)
def test_processes_reach_the_servers_at_their_one_port_only(name: str) -> None:
    where = render(name)
    rabbitmq, mongodb = servers(where)
    for component in PROCESSES:
        source = part(where, component)
        for port in (15672, 15692, 25672, 4369, 22):
            assert not passes(where, source, rabbitmq, port), (component, port)
        for port in (27018, 22, 80):
            assert not passes(where, source, mongodb, port), (component, port)


@pytest.mark.parametrize("name", BOTH)
def test_processes_do_not_speak_to_each_other(name: str) -> None:
    where = render(name)
    for source in [*PROCESSES, "prepare"]:
        for target in PROCESSES:
            for port in (8080, 9090):
                assert not passes(where, part(where, source), part(where, target), port)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("label", ["", "forebay.dev/may-submit", "forebay.dev/may-scrape"])
def test_other_namespaces_reach_what_their_labels_say(name: str, label: str) -> None:
    where = render(name)
    pod = stranger("shop", **({label: "true"} if label else {}))
    scrapes = label.endswith("scrape")
    assert passes(where, pod, part(where, "ingress"), 8080) is bool(label)
    for component in ["reconciler", *WORKERS]:
        assert passes(where, pod, part(where, component), 9090) is scrapes
        assert not passes(where, pod, part(where, component), 8080)
    rabbitmq, mongodb = servers(where)
    assert passes(where, pod, rabbitmq, 15692) is scrapes
    for target, port in ((rabbitmq, 5672), (rabbitmq, 15672), (mongodb, 27017)):
        assert not passes(where, pod, target, port)


@pytest.mark.parametrize("name", BOTH)
def test_nobody_from_outside_the_cluster_gets_in(name: str) -> None:
    where = render(name)
    rabbitmq, mongodb = servers(where)
    for address in ("203.0.113.7", "2001:db8::1"):
        for target, port in (
            (rabbitmq, 5672), (rabbitmq, 15672), (mongodb, 27017),
            (part(where, "reconciler"), 9090), (part(where, "llm-worker"), 9090),
        ):  # fmt: skip
            assert not passes(where, outside(address), target, port)


@pytest.mark.parametrize("component", ["ingress", "reconciler", "prepare"])
@pytest.mark.parametrize("name", BOTH)
def test_who_calls_no_provider_reaches_no_world(name: str, component: str) -> None:
    where = render(name)
    for address in [*PUBLIC, *PRIVATE]:
        for port in (80, 443, 6443):
            assert not passes(where, part(where, component), outside(address), port)


def test_the_simulators_call_nobody() -> None:
    where = render(TRY_OUT)
    source = part(where, "providers")
    for component, target in ends(where).items():
        for port in (53, 80, 443, 5672, 8080, 9080, 9081, 9090, 27017):
            assert not passes(where, source, target, port), (component, port)
    for address in [*PUBLIC, *PRIVATE]:
        assert not passes(where, source, outside(address), 443)


def test_only_workers_call_the_simulators() -> None:
    where = render(TRY_OUT)
    callers = {
        component
        for component, source in ends(where).items()
        if passes(where, source, part(where, "providers"), 9080)
    }
    assert callers == set(WORKERS)
    assert not passes(where, stranger("shop"), part(where, "providers"), 9081)


def test_only_who_makes_secrets_reaches_the_kubernetes_api() -> None:
    where = render(TRY_OUT)
    for address, port in (("10.96.0.1", 443), ("192.168.49.2", 6443), ("34.1.2.3", 443)):
        assert passes(where, part(where, "init-secrets"), outside(address), port)
    for component in ends(where):
        if component != "init-secrets":
            assert not passes(where, part(where, component), outside("10.96.0.1"), 443), component


def test_members_of_a_cluster_reach_each_other() -> None:
    where = render(SERIOUS)
    rabbitmq, mongodb = servers(where)
    for port in (4369, 25672):
        assert passes(where, rabbitmq, rabbitmq, port)
    assert passes(where, mongodb, mongodb, 27017)
    assert not passes(where, rabbitmq, mongodb, 27017)
    assert not passes(where, mongodb, rabbitmq, 5672)


def test_keda_reads_queues_and_nothing_else() -> None:
    where = render(SERIOUS)
    rabbitmq, mongodb = servers(where)
    assert passes(where, stranger("keda"), rabbitmq, 15672)
    assert not passes(where, stranger("keda"), rabbitmq, 5672)
    assert not passes(where, stranger("keda"), mongodb, 27017)


def servers(where: Render) -> tuple[End, End]:
    """RabbitMQ's and MongoDB's pods: our own in the try-out, the operators' otherwise."""
    own = ends(where)
    made = {one.name: one for one in operated(where)}
    return own.get("rabbitmq") or made["rabbitmq"], own.get("mongodb") or made["mongodb"]


def open_everything(bench: Workbench) -> None:
    """A rule without a destination: the whole world, the private one too."""
    bench.get("NetworkPolicy", "workers")["spec"]["egress"].append({"ports": [{"port": 443}]})


def forget_an_exception(bench: Workbench) -> None:
    """Link-local addresses are not kept out of the world any more."""
    for name in ("workers", "pages-and-receivers"):
        for rule in bench.get("NetworkPolicy", name)["spec"]["egress"]:
            for peer in rule.get("to", []):
                block = peer.get("ipBlock", {})
                if "169.254.0.0/16" in block.get("except", []):
                    block["except"].remove("169.254.0.0/16")


def test_a_hole_is_seen() -> None:
    for hole in (open_everything, forget_an_exception):
        where = changed(render(TRY_OUT), hole)
        for name in GUARDED:
            assert passes(where, part(where, name), outside("169.254.169.254"), 443)


def test_a_way_that_is_shut_is_seen() -> None:
    where = changed(render(TRY_OUT), lambda bench: bench.remove("NetworkPolicy", "workers"))
    shut = [str(flow) for flow in needed(where) if not allowed(policies(where), flow)]
    assert "llm-worker -> rabbitmq:5672/TCP" in shut
