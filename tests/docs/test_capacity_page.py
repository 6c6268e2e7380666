"""The worked example of docs/capacity.md is right: each formula gives the value that is shown."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from forebay.broker.topology import MOST_DEAD, MOST_WAITING
from forebay.jobs import Job, JobKind
from forebay.settings import StoreSettings, WorkerSettings
from forebay.store.results import INLINE_BYTES
from forebay.webhooks.delivery import KEPT_S
from scripts.reference_pages import ROOT
from tests.deploy.manifests.rendering import Object, render

PAGE = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
KINDS = tuple(JobKind)
WORKERS = {
    "search": "search-worker",
    "crawl": "crawler-worker",
    "llm": "llm-worker",
    "webhook": "webhook-worker",
}
PRODUCTION = "k8s/overlays/production"
SAME = 0.005
"""Values are rounded to about three digits."""

OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {"ceil": math.ceil, "floor": math.floor, "max": max}

Row = tuple[str, str, list[float]]


def rows(page: str = PAGE) -> list[Row]:
    """Name, formula (or words) and one value for each kind."""
    table = page.partition("<!-- example: begin -->")[2].partition("<!-- example: end -->")[0]
    found = []
    for line in table.strip().splitlines()[2:]:
        name, formula, *values = (cell.strip() for cell in line.strip("|").split("|"))
        found.append((name.strip("`"), formula, [float(value) for value in values]))
    return found


def evaluate(node: ast.expr, names: Mapping[str, float]) -> float:
    """Arithmetic over names, and nothing else."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return names[name]
        case ast.BinOp(left=left, op=op, right=right):
            return float(OPERATORS[type(op)](evaluate(left, names), evaluate(right, names)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return float(FUNCTIONS[name](*(evaluate(one, names) for one in arguments)))
    raise AssertionError(f"not arithmetic: {ast.dump(node)}")


def wrong(table: list[Row]) -> list[str]:
    """The values that their formulas do not give; rows without a formula are given."""
    names: dict[JobKind, dict[str, float]] = {kind: {} for kind in KINDS}
    found = []
    for name, formula, values in table:
        for kind, value in zip(KINDS, values, strict=True):
            if formula.startswith("`") and "<" not in formula:
                right = evaluate(ast.parse(formula.strip("`"), mode="eval").body, names[kind])
                if not math.isclose(value, right, rel_tol=SAME):
                    found.append(f"{name} of {kind} is {right:g}, not {value:g}")
                names[kind][name] = right
            else:
                names[kind][name] = value
    return found


def values_of(name: str) -> list[float]:
    (found,) = (values for row, _, values in rows() if row == name)
    return found


def test_every_formula_of_the_example_gives_its_values() -> None:
    assert len([formula for _, formula, _ in rows() if formula.startswith("`")]) >= 10
    assert wrong(rows()) == []


def test_a_wrong_value_or_formula_would_be_seen() -> None:
    assert wrong(rows(PAGE.replace("| 337 |", "| 347 |"))) != []
    assert wrong(rows(PAGE.replace("`rate * latency * calls`", "`rate * latency`"))) != []


def test_the_example_has_the_defaults_of_the_code() -> None:
    for concurrency, prefetch in zip(values_of("concurrency"), values_of("prefetch"), strict=True):
        assert WorkerSettings(concurrency=int(concurrency)).most_prefetch == prefetch
    assert values_of("concurrency")[0] == WorkerSettings.model_fields["concurrency"].default
    default = Job.__dataclass_fields__["result_ttl_s"].default
    assert values_of("kept") == [default, default, default, KEPT_S]
    assert "`1000000 / rate`" in PAGE
    assert f"{MOST_WAITING:,} messages" in PAGE
    assert f"takes {MOST_DEAD:,}" in PAGE
    assert f"above {INLINE_BYTES // 1024} KiB" in PAGE
    assert f"most {StoreSettings.model_fields['mongodb_pool_size'].default} for each" in PAGE


def test_the_sums_in_the_text_are_those_of_the_table() -> None:
    peak = sum(values_of("peak"))
    assert f"A peak of {peak:g} accepts".lower() in PAGE.lower()
    assert f"{sum(values_of('disk')):.0f} GB in the example" in PAGE
    search, _, llm, _ = values_of("drain")
    assert f"another {round(llm / 60)} minutes of delay" in PAGE
    assert f"without the search engine {round(search / 60)}." in PAGE


def of_kind(kind: str) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in render(PRODUCTION).of_kind(kind)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_what_the_manifests_scale_to(kind: JobKind) -> None:
    column = KINDS.index(kind)
    scaled = of_kind("ScaledObject")[WORKERS[kind]]
    quota = scaled["metadata"]["annotations"]["forebay.dev/provider-quota"]
    assert float(quota) == values_of("quota")[column]
    assert scaled["spec"]["maxReplicaCount"] == values_of("most_replicas")[column]
    least = min(int(one["metadata"]["value"]) for one in scaled["spec"]["triggers"])
    assert f"{least} for a concurrency of {values_of('concurrency')[column]:g}" in PAGE
    assert least > values_of("prefetch")[column]


def test_the_limits_in_the_table_are_those_of_the_manifests() -> None:
    for name, deployment in of_kind("Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        limit = container["resources"]["limits"]["memory"]
        shown = limit.replace("Mi", " MB").replace("Gi", " GB")
        (line,) = (one for one in PAGE.splitlines() if one.startswith(f"| {spoken(name)} |"))
        assert line.endswith(f"| {shown} |"), f"{name} has {limit}"


def spoken(deployment: str) -> str:
    return deployment.replace("-", " ")
