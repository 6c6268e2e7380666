"""Objects against the schemas of their kinds, strictly: a field that is not known is a mistake.

Built-in kinds are checked against the schemas of several Kubernetes versions, which a package of
the test environment brings. The kinds of operators are checked against tests/deploy/schemas, which
hold what our manifests use of them; crds.py compares those with the operators' own definitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import utils as packaged
from packaging.version import Version
from referencing import Registry, Resource

from tests.deploy.manifests.objects import label
from tests.deploy.manifests.rendering import Object

OLDEST = Version("1.30")
"""The oldest Kubernetes that is supported: it has sleep in preStop switched on."""
CUSTOM = Path(__file__).parents[1] / "schemas"


@cache
def versions() -> tuple[str, ...]:
    """Every version that is checked: from the oldest supported to the newest that is known."""
    return tuple(
        sorted({one for one in packaged.all_versions() if Version(one) >= OLDEST}, key=Version)
    )


def problems(one: Object, version: str) -> list[str]:
    """What a cluster of this version would not take, or would silently drop."""
    validator = _validator(one["apiVersion"], one["kind"], version)
    if validator is None:
        return [f"{label(one)}: no schema for {one['kind']} of {one['apiVersion']} in {version}"]
    said = [
        f"{label(one)}: {error.json_path}: {error.message}" for error in validator.iter_errors(one)
    ]
    return said + [f"{label(one)}: {path} is null" for path in _nulls(one, "$")]


def is_custom(one: Object) -> bool:
    """Whether an operator defines the kind, so that the cluster's version does not matter."""
    return _custom_file(one["apiVersion"], one["kind"]).exists()


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator | None:
    schema = _custom(api_version, kind) or _built_in(api_version, kind, version)
    if schema is None:
        return None
    return Draft202012Validator(schema, registry=definitions(version))


@cache
def definitions(version: str) -> Registry[Any]:
    """What the schemas of a version refer to."""
    contents = packaged.schema_contents(_path(version, "_definitions"), version)
    return Resource.from_contents(contents) @ Registry()


def _built_in(api_version: str, kind: str, version: str) -> Any:
    group, _, api = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], api) if part)
    try:
        return packaged.schema_contents(_path(version, name), version)
    except FileNotFoundError:
        return None


def _path(version: str, name: str) -> str:
    return f"kubernetes-json-schema/v{version}-local-strict/{name}.json"


def _custom(api_version: str, kind: str) -> Any:
    file = _custom_file(api_version, kind)
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None


def _custom_file(api_version: str, kind: str) -> Path:
    return CUSTOM / f"{kind.lower()}-{api_version.replace('/', '-')}.yaml"


def _nulls(value: Any, path: str) -> Iterator[str]:
    """The schemas allow null everywhere; in a manifest it is a value that was forgotten."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nulls(inner, f"{path}[{index}]")
