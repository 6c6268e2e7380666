"""The reference pages say what the code says, and leave nothing out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forebay.telemetry.metrics import Metrics
from scripts.reference_pages import PAGES, ROOT, settings_groups, with_table


@pytest.mark.parametrize(("name", "table"), PAGES.items())
def test_the_page_is_written_from_the_code(name: str, table: Callable[[], str]) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == with_table(page, table()), "run `make docs`"


def test_every_setting_says_what_it_means() -> None:
    silent = [
        f"{group.__name__}.{name}"
        for group in settings_groups()
        for name, field in group.model_fields.items()
        if not field.description
    ]
    assert not silent


def test_every_metric_says_what_it_means() -> None:
    assert not [metric.name for metric in Metrics().registry.collect() if not metric.documentation]
