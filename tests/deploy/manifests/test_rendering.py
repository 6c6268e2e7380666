"""Every kustomization in the checkout is rendered, and by nothing else than kubectl."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.manifests.rendering import (
    MANIFESTS,
    RenderError,
    is_component,
    kustomizations,
    kustomize,
    listed,
    planned,
    render,
)

pytestmark = pytest.mark.timeout(300)  # the first test pays for kubectl and all imports


@pytest.mark.parametrize("name", planned())
def test_it_renders(name: str) -> None:
    assert render(name).objects


def test_no_kustomization_is_forgotten() -> None:
    alone = {entry for entry in planned() if " onto " not in entry}
    composed = {entry.partition(" onto ")[0] for entry in planned() if " onto " in entry}
    inside = {component for overlay in alone for component in listed(MANIFESTS, overlay)}
    found = kustomizations()
    assert len(found) > 10
    assert set(found) == alone | composed | inside
    assert all(is_component(found[name]) for name in composed | inside)


def test_the_root_is_the_try_out() -> None:
    assert render("k8s").objects == render("k8s/overlays/local").objects


def test_a_kustomization_that_does_not_build_fails_with_kubectls_words(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n", encoding="utf-8")
    with pytest.raises(RenderError, match=r"gone\.yaml"):
        kustomize(tmp_path)


def test_a_deprecated_field_fails(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}", encoding="utf-8"
    )
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [one.yaml]\ncommonLabels: {a: b}\n", encoding="utf-8"
    )
    with pytest.raises(RenderError, match="commonLabels"):
        kustomize(tmp_path)


def test_a_new_component_is_in_the_plan(tmp_path: Path) -> None:
    for folder, kind in (
        ("k8s/overlays/local", "Kustomization"),
        ("k8s/components/x", "Component"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kustomization.yaml").write_text(f"kind: {kind}\n", encoding="utf-8")
    assert planned(tmp_path) == ["k8s/components/x onto k8s/overlays/local", "k8s/overlays/local"]
