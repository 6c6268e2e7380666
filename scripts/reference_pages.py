"""Write the tables of the reference pages from the code; `make docs` runs it.

Settings, log events, metrics and error codes are each documented where they are defined. The pages
under docs/ hold the same between two markers, and a test fails when a page is behind.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from prometheus_client import Metric
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from forebay import errors
from forebay.errors import FAULTS
from forebay.settings import SettingsGroup
from forebay.telemetry import events
from forebay.telemetry.metrics import Metrics
from ingress import problems
from ingress.app import describe_app
from ingress.openapi import render
from ingress.problems import PROBLEMS

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def settings_groups() -> list[type[SettingsGroup]]:
    """Every settings group of every process, the shared ones first."""
    for settings in sorted((ROOT / "services").glob("*/**/*.py")):
        if "class" in (text := settings.read_text(encoding="utf-8")) and "Settings" in text:
            parts = settings.relative_to(ROOT / "services").with_suffix("").parts
            if parts[-1] != "__main__":
                importlib.import_module(".".join(parts))

    def below(group: type[SettingsGroup]) -> Iterator[type[SettingsGroup]]:
        for child in group.__subclasses__():
            yield child
            yield from below(child)

    groups = {group.__name__: group for group in below(SettingsGroup)}
    # The workers' common group is shown through each worker's own, under its own prefix.
    groups.pop("WorkerSettings", None)
    return sorted(
        groups.values(), key=lambda g: (g.__module__.split(".")[0] != "forebay", g.__name__)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(needed)"
    if field.default is PydanticUndefined or field.default in (None, ""):
        return ""
    return f"`{field.default}`"


def configuration() -> str:
    """A section per settings group."""
    parts = []
    for group in settings_groups():
        prefix = group.model_config.get("env_prefix", "")
        rows = [
            (f"`{prefix}{name}`".upper(), _default(field), field.description or "")
            for name, field in group.model_fields.items()
        ]
        title = (group.__doc__ or group.__name__).strip().splitlines()[0]
        parts += [f"## {group.__name__}", title, _table(("setting", "default", "meaning"), rows)]
    return "\n\n".join(parts)


def _documented(enum: type[StrEnum], module: object) -> list[tuple[str, str]]:
    """Members with the docstring written below each."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    (node,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == enum.__name__)
    meanings: dict[str, str] = {}
    last = ""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            last = statement.targets[0].id
        elif last and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            meanings[last] = str(statement.value.value)
    return [(member.value, meanings.get(member.name, "")) for member in enum]


def log_events() -> str:
    """Every log event."""
    rows = [(f"`{name}`", meaning) for name, meaning in _documented(events.LogEvent, events)]
    return _table(("event", "meaning"), list(rows))


def _on_the_wire(metric: Metric) -> str:
    """Its name as Prometheus sees it: the library adds `_total` to counters."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def metrics() -> str:
    """Every metric."""
    ours = Metrics()
    # The library tells the names of labels nowhere else before there is a value.
    labels = {
        one._name: one._labelnames  # noqa: SLF001
        for one in vars(ours).values()
        if hasattr(one, "_name")
    }
    rows = [
        (
            f"`{_on_the_wire(metric)}`",
            metric.type,
            " ".join(f"`{label}`" for label in labels[metric.name]),
            metric.documentation,
        )
        for metric in ours.registry.collect()
    ]
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


def error_codes() -> str:
    """Every code that a request or a job can be answered with."""
    requests = [
        (f"`{code}`", str(PROBLEMS[code].status), meaning or PROBLEMS[code].title)
        for code, meaning in _documented(problems.ProblemCode, problems)
    ]
    jobs = [
        (f"`{code}`", str(PROBLEMS[code].status), FAULTS[errors.ErrorCode(code)].value, meaning)
        for code, meaning in _documented(errors.ErrorCode, errors)
    ]
    return "\n\n".join(
        [
            "## Requests",
            _table(("code", "status", "meaning"), requests),
            "## Jobs",
            _table(("code", "status of `/result`", "whose fault", "meaning"), jobs),
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "events.md": log_events,
    "metrics.md": metrics,
    "errors.md": error_codes,
}


def with_table(page: str, table: str) -> str:
    """The page with today's table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Write every page, and the description of the API."""
    for name, table in PAGES.items():
        page = ROOT / "docs" / name
        page.write_text(with_table(page.read_text(encoding="utf-8"), table()), encoding="utf-8")
        sys.stdout.write(f"docs/{name} is written\n")
    (ROOT / "docs" / "openapi.json").write_text(render(describe_app()), encoding="utf-8")
    sys.stdout.write("docs/openapi.json is written\n")


if __name__ == "__main__":
    main()
