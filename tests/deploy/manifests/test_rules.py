"""The rules for images and manifests: kept by everything we render, and each one shown to see."""

from __future__ import annotations

import pytest

from tests.deploy.manifests.planted.every import MISTAKES
from tests.deploy.manifests.planted.mistake import Mistake
from tests.deploy.manifests.rendering import (
    MANIFESTS,
    Render,
    is_component,
    kustomizations,
    listed,
    overlay_for,
    planned,
    render,
)
from tests.deploy.manifests.rules.every import Rule, rules
from tests.deploy.manifests.workbench import changed

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports

COMPLETE = [name for name in planned() if Render(name, ()).complete]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", COMPLETE)
def test_it_keeps_the_rule(name: str, rule: Rule) -> None:
    assert rule(render(name)) == []


def test_every_component_is_judged_in_the_overlay_that_lists_it_or_by_itself_onto_one() -> None:
    components = [name for name, one in kustomizations().items() if is_component(one)]
    judged = {
        name
        for name in components
        if name in listed(MANIFESTS, overlay_for(name))
        or f"{name} onto {overlay_for(name)}" in COMPLETE
    }
    assert judged == set(components)
    assert any(" onto " in name for name in COMPLETE)


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
