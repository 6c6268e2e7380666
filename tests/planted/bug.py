"""What a planted bug is, and how it gets into a copy of the checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.planted.finders import Finder


class NoLongerApplies(Exception):
    """The text to be replaced is not in its file exactly once: the bug must be written anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One text of a file, replaced by another."""

    file: str
    """Below services/."""
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A guard taken out of the product, and the suites that must notice."""

    name: str
    breaks: str
    """The promise that is gone with it; the numbers are told in tests/planted/bugs.py."""
    edits: tuple[Edit, ...]
    found_by: tuple[Finder, ...]
    """Suites each of which must find it."""

    def planted(self, services: Path) -> dict[str, str]:
        """The files it changes, as they are with it; raises `NoLongerApplies`."""
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or (services / edit.file).read_text(encoding="utf-8")
            times = text.count(edit.old)
            if times != 1:
                raise NoLongerApplies(
                    f"{self.name}: {edit.file} has this {times} times: {edit.old}"
                )
            texts[edit.file] = text.replace(edit.old, edit.new)
        return texts

    def plant(self, services: Path) -> None:
        """Put it into a copy of services/; raises `NoLongerApplies` before anything is written."""
        for file, text in self.planted(services).items():
            (services / file).write_text(text, encoding="utf-8")
