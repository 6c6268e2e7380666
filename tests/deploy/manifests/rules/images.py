"""Which images run, and what they are told to run."""

from __future__ import annotations

import importlib.util
import tomllib
from typing import Any

import typer.main

from forebay.cli.verbs import app
from tests.deploy.manifests.objects import Container, containers
from tests.deploy.manifests.rendering import ROOT, Render

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
MOVING = {"latest", "stable", "main", "master", "edge", "nightly"}


def names_a_fixed_image(render: Render) -> list[str]:
    """A tag that moves gives two nodes two versions."""
    said = []
    for one in containers(render):
        tag = tag_of(one.image)
        if not tag or tag in MOVING:
            said.append(f"{one.name}: the image {one.image!r} has no fixed tag")
        elif one.ours and tag != VERSION:
            said.append(f"{one.name}: the image is {tag}, this is version {VERSION}")
    return said


def tag_of(image: str) -> str:
    """The tag, or the digest in its place; empty when there is neither."""
    name, _, digest = image.partition("@")
    return name.rpartition("/")[2].partition(":")[2] or digest


def pulls_only_what_is_missing(render: Render) -> list[str]:
    """An image loaded into a cluster by hand must be found, and no restart waits for a registry."""
    return [
        f"{one.name}: imagePullPolicy is not IfNotPresent"
        for one in containers(render)
        if one.spec.get("imagePullPolicy", "IfNotPresent") != "IfNotPresent"
    ]


def runs_a_command_that_exists(render: Render) -> list[str]:
    """`python -m` a module, or `forebay` with a verb and options that it knows."""
    return [
        f"{one.name}: {trouble}"
        for one in containers(render)
        if one.ours and (trouble := _trouble(one))
    ]


def _trouble(one: Container) -> str | None:
    words = one.words
    if words[:2] == ["python", "-m"]:
        return _no_module(words[2]) if len(words) > 2 else "python -m runs nothing"
    if words[:1] == ["forebay"]:
        return not_a_verb(words[1:])
    return f"{words} is neither `python -m MODULE` nor `forebay VERB`"


def _no_module(name: str) -> str | None:
    runnable = f"{name}.__main__" if not name.startswith("forebay.") else name
    try:
        found = importlib.util.find_spec(runnable) or importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    return None if found else f"there is no module {name} to run"


def not_a_verb(words: list[str]) -> str | None:
    """Why the CLI refuses these words; it reads them and runs nothing."""
    command: Any = typer.main.get_command(app)
    context = None
    while verbs := getattr(command, "commands", None):
        context = command.make_context("forebay", [], parent=context, resilient_parsing=True)
        name, words = (words[0], words[1:]) if words else ("", [])
        if name not in verbs:
            return f"forebay has no verb {name!r}"
        command = verbs[name]
    try:
        command.make_context("forebay", words, parent=context)
    except Exception as refused:
        if (message := getattr(refused, "format_message", None)) is None:
            raise
        return str(message())
    return None
