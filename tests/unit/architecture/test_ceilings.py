"""Sizes and shapes that keep the code readable; docs/architecture.md has the reasons."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.settings import SettingsGroup

ROOT = Path(__file__).parents[3]
FILE_CEILING, FUNCTION_CEILING, ARGUMENT_CEILING, FIELD_CEILING = 500, 60, 6, 15
PRODUCT = sorted(
    path for folder in ("services", "loadtest", "scripts") for path in (ROOT / folder).rglob("*.py")
)
ALL = [*PRODUCT, *sorted((ROOT / "tests").rglob("*.py"))]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_walk_sees_the_code() -> None:
    assert len(PRODUCT) > 40
    assert sum(1 for path in PRODUCT for _ in functions(path)) > 200


def test_no_file_is_longer_than_its_ceiling() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ALL
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_CEILING
    }
    assert not long


def test_no_function_is_longer_than_its_ceiling() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": size
        for path in ALL
        for node in functions(path)
        if (size := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_CEILING
    }
    assert not long


def test_no_constructor_takes_more_than_six_arguments() -> None:
    crowded = {}
    for path in PRODUCT:
        for node in functions(path):
            count = len(node.args.args) + len(node.args.kwonlyargs) - 1
            if node.name == "__init__" and count > ARGUMENT_CEILING:
                crowded[f"{path.relative_to(ROOT)}:{node.lineno}"] = count
    assert not crowded


def settings_groups() -> list[type[SettingsGroup]]:
    for settings in (ROOT / "services").glob("*/settings.py"):
        importlib.import_module(f"{settings.parent.name}.settings")

    def below(group: type[SettingsGroup]) -> Iterator[type[SettingsGroup]]:
        for child in group.__subclasses__():
            yield child
            yield from below(child)

    return list(below(SettingsGroup))


def test_no_settings_group_has_more_fields_than_its_ceiling() -> None:
    groups = settings_groups()
    assert len(groups) > 8
    own = {group.__name__: len(vars(group).get("__annotations__", {})) for group in groups}
    assert not {name: count for name, count in own.items() if count > FIELD_CEILING}


def test_the_source_root_is_not_a_package() -> None:
    assert not (ROOT / "services" / "__init__.py").exists()


@pytest.mark.parametrize("name", ["common", "core", "shared", "utils", "helpers", "misc"])
def test_no_module_is_named_after_nothing(name: str) -> None:
    named = [path for path in PRODUCT if name in {path.stem, path.parent.name}]
    assert not named
