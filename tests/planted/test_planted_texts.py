"""The planted bugs still fit the product; that they are found is for tests/planted/run.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.planted.bug import Bug, Edit, NoLongerApplies
from tests.planted.bugs import BUGS
from tests.planted.finders import CORE, FINDERS

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_still_applies_and_can_be_compiled(bug: Bug) -> None:
    for file, text in bug.planted(SERVICES).items():
        was = (SERVICES / file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(was)), f"{file} says the same"


def test_every_bug_has_a_name_of_its_own_and_suites_that_are_there() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 15
    for bug in BUGS:
        assert bug.found_by
        assert all(finder in FINDERS and (ROOT / finder.path).exists() for finder in bug.found_by)


def test_every_suite_must_find_some_bug() -> None:
    used = {finder for bug in BUGS for finder in bug.found_by}
    assert [finder.name for finder in FINDERS if finder not in used] == []


@pytest.mark.parametrize("times", [0, 2])
def test_a_text_that_is_not_there_exactly_once_is_refused(tmp_path: Path, times: int) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * times)
    bug = Bug("b", "I1", (Edit("a.py", "x = 1", "x = 2"),), (CORE,))
    with pytest.raises(NoLongerApplies, match=f"{times} times"):
        bug.plant(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1\n" * times


def test_planting_changes_the_copy(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    edits = (Edit("a.py", "x = 1", "x = 2"), Edit("a.py", "y = 1", "y = 2"))
    Bug("b", "I1", edits, (CORE,)).plant(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 2\ny = 2\n"
