"""The rules for images and manifests: kept by everything we render, and each one shown to see."""

from __future__ import annotations

import pytest

from tests.deploy.manifests.planted.every import MISTAKES
from tests.deploy.manifests.planted.mistake import Mistake
from tests.deploy.manifests.rendering import planned, render
from tests.deploy.manifests.rules.every import Rule, rules
from tests.deploy.manifests.workbench import changed

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports

COMPLETE = [name for name in planned() if name == "k8s" or "k8s/overlays/" in name]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", COMPLETE)
def test_it_keeps_the_rule(name: str, rule: Rule) -> None:
    assert render(name).complete
    assert rule(render(name)) == []


@pytest.mark.parametrize(
    "mistake",
    MISTAKES,
    ids=[f"{one.rule.__name__}-{number}" for number, one in enumerate(MISTAKES)],
)
def test_the_rule_sees_the_mistake(mistake: Mistake) -> None:
    clean = render(mistake.render)
    before = mistake.rule(clean)
    said = [one for one in mistake.rule(changed(clean, mistake.change)) if one not in before]
    assert any(mistake.words in one for one in said), said


def test_every_rule_has_a_mistake_that_it_sees() -> None:
    assert len(rules()) > 50
    assert {rule.__name__ for rule in rules()} == {one.rule.__name__ for one in MISTAKES}
