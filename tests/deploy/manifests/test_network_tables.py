"""All that each pod may open, and all that it takes, as two tables: no more and no less.

A connection needs both its ends, so one end that is too wide is hidden by the other. Here each end
is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forebay.addresses import DEFAULT_PORTS
from tests.deploy.manifests.flows import operated
from tests.deploy.manifests.network import (
    End,
    Flow,
    ends,
    enters,
    leaves,
    outside,
    policies,
    stranger,
)
from tests.deploy.manifests.planted.mistake import SERIOUS, TRY_OUT
from tests.deploy.manifests.rendering import Render, render

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports

Ways = set[str]
Table = dict[str, Ways]

PORTS = (
    22, 53, 80, 443, 4369, 5671, 5672, 6443, 8080, 8443, 9080, 9081, 9090, 10250, 15672, 15692,
    25672, 27016, 27017, 27018, 35672, 35682, 65535,
)  # fmt: skip
PUBLIC, PRIVATE, NAME_CACHE = "1.1.1.1", "10.96.0.1", "169.254.20.10"
OTHERS = (
    stranger("kube-system"),
    stranger("keda"),
    stranger("rabbitmq-system"),
    stranger("shop"),
    stranger("shop", **{"forebay.dev/may-submit": "true"}),
    stranger("shop", **{"forebay.dev/may-scrape": "true"}),
    outside(PUBLIC),
    outside(PRIVATE),
    outside(NAME_CACHE),
)
WORKERS = ("search-worker", "crawler-worker", "llm-worker", "webhook-worker")
PROCESSES = ("ingress", "reconciler", *WORKERS)
DNS = {"kube-system:53", f"{NAME_CACHE}:53"}
SERVERS = {"mongodb:27017", "rabbitmq:5672"}
API = {443, 6443}


def population(where: Render) -> dict[str, End]:
    """Every pod of ours and of the operators, and an unknown one in our namespace."""
    ours = {**{one.name: one for one in operated(where)}, **ends(where)}
    return {**ours, "newcomer": End("newcomer", "10.244.1.1", {}, "forebay", {})}


def ways(where: Render, may: Callable[[End, int], bool]) -> Ways:
    """The other ends, with the ports, that one end allows."""
    others = {**population(where), **{one.name: one for one in OTHERS}}
    return {
        f"{name}:{port}" for name, other in others.items() for port in PORTS if may(other, port)
    }


def everybody(where: Render, ports: set[int]) -> Ways:
    """These ports of everything there is."""
    names = [*population(where), *(one.name for one in OTHERS)]
    return {f"{name}:{port}" for name in names for port in ports}


def opens(where: Render) -> Table:
    """What each pod may open."""
    worker = DNS | SERVERS | {f"{PUBLIC}:443"}
    guarded = worker | {f"{PUBLIC}:{port}" for port in DEFAULT_PORTS}
    table = {
        "ingress": DNS | SERVERS,
        "reconciler": DNS | SERVERS,
        "search-worker": worker,
        "llm-worker": worker,
        **dict.fromkeys(("crawler-worker", "webhook-worker"), guarded),
        "prepare": DNS | {"mongodb:27017", "rabbitmq:15672"},
        "newcomer": DNS,
    }
    members = {"mongodb:27017"}
    if where.name == SERIOUS:
        nodes = {f"rabbitmq:{port}" for port in (4369, 25672, 35672, 35682)}
        api = everybody(where, API)
        return {**table, "rabbitmq": DNS | nodes | api, "mongodb": DNS | members | api}
    for name in WORKERS:
        table[name] = table[name] | {"providers:9080", "providers:9081"}
    return {
        **table,
        "rabbitmq": DNS,
        "mongodb": DNS | members,
        "providers": DNS,
        "mongodb-initiate": table["prepare"],
        "init-secrets": DNS | everybody(where, API),
    }


def takes(where: Render) -> Table:
    """What each pod takes from others."""
    scraped = {"shop may-scrape:9090"}
    broker = {f"{name}:5672" for name in PROCESSES} | {"prepare:15672", "shop may-scrape:15692"}
    store = {f"{name}:27017" for name in (*PROCESSES, "prepare", "mongodb")}
    table: Table = {
        "ingress": {"shop may-submit:8080", "shop may-scrape:8080"},
        **dict.fromkeys(("reconciler", *WORKERS), scraped),
        "prepare": set(),
        "newcomer": set(),
    }
    if where.name == SERIOUS:
        nodes = {f"rabbitmq:{port}" for port in (4369, 25672, 35672, 35682)}
        asked = {"keda:15672", "rabbitmq-system:15672"}
        return {**table, "rabbitmq": broker | nodes | asked, "mongodb": store}
    return {
        **table,
        "rabbitmq": broker,
        "mongodb": store | {"mongodb-initiate:27017"},
        "providers": {f"{name}:{port}" for name in WORKERS for port in (9080, 9081)},
        "mongodb-initiate": set(),
        "init-secrets": set(),
    }


@pytest.mark.parametrize("name", [TRY_OUT, SERIOUS])
def test_nobody_may_open_more_than_the_table_says(name: str) -> None:
    where = render(name)
    rules = policies(where)
    for key, me in population(where).items():
        found = ways(where, lambda other, port, me=me: leaves(rules, Flow(me, other, port)))
        assert found == opens(where)[key], key


@pytest.mark.parametrize("name", [TRY_OUT, SERIOUS])
def test_nobody_takes_more_than_the_table_says(name: str) -> None:
    where = render(name)
    rules = policies(where)
    for key, me in population(where).items():
        found = ways(where, lambda other, port, me=me: enters(rules, Flow(other, me, port)))
        assert found == takes(where)[key], key
