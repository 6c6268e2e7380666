"""The evaluator of NetworkPolicies itself, on policies made for each of Kubernetes' rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.manifests.network import NAMESPACE_NAME, End, Flow, allowed, outside

A = End("a", "10.0.0.1", {"app": "a"}, "one", {NAMESPACE_NAME: "one"})
B = End("b", "10.0.0.2", {"app": "b"}, "one", {NAMESPACE_NAME: "one"}, {"web": 8080})
C = End("c", "10.0.0.3", {"app": "c"}, "two", {NAMESPACE_NAME: "two"})
WORLD = outside("203.0.113.7")
Policy = dict[str, Any]


def policy(app: str | None, **spec: Any) -> Policy:
    selector = {"matchLabels": {"app": app}} if app else {}
    return {"metadata": {"namespace": "one"}, "spec": {"podSelector": selector, **spec}}


def test_who_is_selected_by_nobody_may_do_everything() -> None:
    assert allowed([], Flow(A, B, 80))
    assert allowed([policy("x", policyTypes=["Ingress", "Egress"])], Flow(WORLD, B, 80))


def test_a_policy_without_rules_denies_its_directions() -> None:
    deny = policy(None, policyTypes=["Ingress", "Egress"])
    assert not allowed([deny], Flow(A, B, 80))
    assert not allowed([deny], Flow(C, B, 80))
    assert not allowed([deny], Flow(B, C, 80))
    assert allowed([policy("b", policyTypes=["Egress"])], Flow(A, B, 80))


def test_a_policy_that_names_no_direction_is_about_ingress_and_about_egress_if_it_has_some() -> (
    None
):
    assert not allowed([policy("b")], Flow(A, B, 80))
    assert allowed([policy("a")], Flow(A, B, 80))
    assert not allowed([policy("a", egress=[])], Flow(A, B, 80))


def test_a_policy_is_about_its_own_namespace() -> None:
    assert allowed([policy(None, policyTypes=["Ingress"])], Flow(A, C, 80))


def test_rules_add_and_both_ends_must_agree() -> None:
    from_a = policy("b", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}])
    to_nobody = policy("a", policyTypes=["Egress"])
    to_b = policy("a", egress=[{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}]}])
    assert allowed([from_a], Flow(A, B, 80))
    assert not allowed([from_a, to_nobody], Flow(A, B, 80))
    assert allowed([from_a, to_nobody, to_b], Flow(A, B, 80))


@pytest.mark.parametrize(
    ("peer", "who"),
    [
        ({"podSelector": {}}, [A]),
        ({"namespaceSelector": {}}, [A, C]),
        ({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "two"}}}, [C]),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "c"}}}, [C]),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]
                }
            },
            [A],
        ),
        ({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}, []),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, [A, C, WORLD]),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, [WORLD]),
        ({"ipBlock": {"cidr": "2000::/3"}}, []),
    ],
)
def test_a_peer_is_who_it_says(peer: Policy, who: list[End]) -> None:
    rules = [policy("b", ingress=[{"from": [peer]}])]
    assert [one for one in (A, C, WORLD) if allowed(rules, Flow(one, B, 80))] == who


@pytest.mark.parametrize(
    ("port", "open_to"),
    [
        ({"port": 80}, [(80, "TCP")]),
        ({"protocol": "UDP", "port": 53}, [(53, "UDP")]),
        ({"port": 80, "endPort": 8080}, [(80, "TCP"), (443, "TCP"), (8080, "TCP")]),
        ({"port": "web"}, [(8080, "TCP")]),
        ({"port": "else"}, []),
        ({"protocol": "UDP"}, [(53, "UDP")]),
    ],
)
def test_a_port_is_what_it_says(port: Policy, open_to: list[tuple[int, str]]) -> None:
    rules = [policy("b", ingress=[{"ports": [port]}])]
    tried = [(80, "TCP"), (53, "UDP"), (443, "TCP"), (8080, "TCP"), (8081, "TCP")]
    assert [one for one in tried if allowed(rules, Flow(A, B, *one))] == open_to
