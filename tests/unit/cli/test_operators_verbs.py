"""The operators' verbs: what those print that need no server, and where each other one is typed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from forebay import __version__
from forebay.broker.topology import forebay_topology
from forebay.cli.verbs import OPERATORS
from tests.typed import typed
from tests.verbs import verbs_of

TESTS = Path(__file__).parents[2]
TYPED_IN = {
    "audit": "integration/audit/test_audit.py",
    "version": "unit/cli/test_operators_verbs.py",
    "topology apply": "integration/broker/test_topology.py",
    "topology show": "unit/cli/test_operators_verbs.py",
    "store apply": "integration/store/test_initiation.py",
    "store initiate": "integration/store/test_initiation.py",
    "keys create": "integration/cli/test_keys.py",
    "keys list": "integration/cli/test_keys.py",
    "keys revoke": "integration/cli/test_keys.py",
    "secrets init": "unit/cluster/test_folders.py",
    "k8s init-secrets": "unit/cluster/test_manifests.py",
    "dead list": "integration/cli/test_dead.py",
    "dead replay": "integration/cli/test_dead.py",
}


def test_each_verb_has_its_test() -> None:
    assert set(TYPED_IN) == {" ".join(words) for words in verbs_of(OPERATORS)}


@pytest.mark.parametrize(("verb", "path"), TYPED_IN.items(), ids=TYPED_IN)
def test_a_verb_is_typed_where_its_test_is_said_to_be(verb: str, path: str) -> None:
    text = (TESTS / path).read_text("utf-8")
    first, *rest = (f'"{word}"' for word in verb.split())
    whole = re.search(rf"(forebay|begin|typed)\({', '.join([first, *rest])}", text)
    by_a_helper = f"({first}, *words" in text and all(word in text for word in rest)
    assert whole or by_a_helper


def test_version_is_the_packages() -> None:
    said = typed("version")
    assert (said.code, said.out, said.err) == (0, f"{__version__}\n", "")


def test_the_topology_is_shown_without_a_broker() -> None:
    whole = forebay_topology()
    said = typed("topology", "show", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads(json.dumps(asdict(whole)))


def test_the_topology_is_shown_as_tables() -> None:
    whole = forebay_topology()
    said = typed("topology", "show")
    assert (said.code, said.err) == (0, "")
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in said.out.splitlines()]
    begun = [row for row in rows if row and row[0]]
    for queue in whole.queues:
        (row,) = (row for row in begun if row[0] == queue.name)
        first = next(one for one in whole.bindings if one.queue == queue.name)
        assert row[1:] == [queue.type, f"{first.exchange} {first.routing_key}"]
    for user in whole.users:
        (row,) = (row for row in begun if row[0] == user.name)
        assert row[3] == " ".join(user.tags)
    assert f"vhost {whole.vhost}" in said.out
