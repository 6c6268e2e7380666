"""All rules. A rule is a function of a render that says what breaks it; nothing is good."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from tests.deploy.manifests.rendering import Render
from tests.deploy.manifests.rules import (
    broker,
    clusters,
    images,
    lifecycle,
    names,
    probes,
    references,
    scaling,
    security,
    settings,
)

Rule = Callable[[Render], list[str]]

MODULES = (
    broker, clusters, images, lifecycle, names, probes, references, scaling, security, settings,
)  # fmt: skip


def rules() -> list[Rule]:
    """Every public function of these modules that is given a render and returns a list of text."""
    return [
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation == "list[str]"
        and list(inspect.signature(function).parameters) == ["render"]
    ]
