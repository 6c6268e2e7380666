"""Compares this repository with the operators' own definitions of their kinds (CRDs), by hand.

    PYTHONPATH=services:. python -m tests.deploy.manifests.crds FOLDER

FOLDER holds the operators' CRD files of the releases that tests/deploy/schemas/README.md names.
Two things are checked: that every object of such a kind that we render is valid, strictly, and
that the schemas kept here claim no field that the operator does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.deploy.manifests import schemas
from tests.deploy.manifests.objects import label
from tests.deploy.manifests.rendering import rendered

Schema = Mapping[str, Any]
FREE = "x-kubernetes-preserve-unknown-fields"


def definitions(folder: Path) -> dict[tuple[str, str], Schema]:
    """The schemas of all CRD files of a folder, by apiVersion and kind, made strict."""
    found = {}
    for file in sorted(folder.rglob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if one and one.get("kind") == "CustomResourceDefinition":
                group, kind = one["spec"]["group"], one["spec"]["names"]["kind"]
                for version in one["spec"]["versions"]:
                    schema = version["schema"]["openAPIV3Schema"]
                    found[f"{group}/{version['name']}", kind] = strict(schema, root=True)
    return found


def strict(schema: Schema, *, root: bool = False) -> dict[str, Any]:
    """A structural schema as JSON Schema that knows no other fields than those it names.

    `metadata` of the object itself is left to the cluster, as a cluster does.
    """
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    made.pop("description", None)
    for key in ("format", "default"):
        made.pop(key, None)
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [made["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if "properties" in schema:
        made["properties"] = {
            name: {} if root and name == "metadata" else strict(inner)
            for name, inner in schema["properties"].items()
        }
        if not schema.get(FREE):
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            made[key] = strict(schema[key])
    return made


def unknown_fields(ours: Schema, theirs: Schema, path: str = "$") -> Iterator[str]:
    """The fields of a schema of ours that the operator's does not have."""
    closed = theirs.get("additionalProperties") is False
    for name, inner in ours.get("properties", {}).items():
        their = theirs.get("properties", {})
        if name in their:
            yield from unknown_fields(inner, their[name], f"{path}.{name}")
        elif closed:
            yield f"{path}.{name}"
    if "items" in ours and "items" in theirs:
        yield from unknown_fields(ours["items"], theirs["items"], f"{path}[]")


def compare(folder: Path) -> list[str]:
    """Everything that does not agree."""
    defined = definitions(folder)
    said = []
    for file in sorted(schemas.CUSTOM.glob("*.yaml")):
        ours = yaml.safe_load(file.read_text(encoding="utf-8"))["properties"]
        key = (ours["apiVersion"]["enum"][0], ours["kind"]["enum"][0])
        if key not in defined:
            said.append(f"{file.name}: no CRD of {key}")
            continue
        spec = defined[key]["properties"]["spec"]
        said += [f"{file.name}: {field}" for field in unknown_fields(ours["spec"], spec)]
    for render in rendered():
        for one in render.objects:
            if schemas.is_custom(one) and (one["apiVersion"], one["kind"]) in defined:
                errors = Draft202012Validator(defined[one["apiVersion"], one["kind"]])
                said += [
                    f"{render.name}: {label(one)}: {error.json_path}: {error.message}"
                    for error in errors.iter_errors(one)
                ]
    return said


def main() -> int:
    """Say what does not agree; returns 1 when something does not."""
    said = compare(Path(sys.argv[1]))
    sys.stdout.write("\n".join(said or ["All agree."]) + "\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
