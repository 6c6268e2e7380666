"""The commands that a page tells its reader to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.reference_pages import ROOT

PAGES = ("docs/deploy.md", "docs/backup.md", "docs/capacity.md", "README.md")
_HEREDOC = re.compile(r"<<'END'\n(.*?)\n *END\n", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command with its words, and where it stands."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def plain(self) -> list[str]:
        """The words that are no options, from the program's name on."""
        return [word for word in self.words if not word.startswith("-")]

    def option(self, *names: str) -> str | None:
        """The value after an option, or after its `=`."""
        for n, word in enumerate(self.words):
            if word in names and n + 1 < len(self.words):
                return self.words[n + 1]
            for name in names:
                if word.startswith(f"{name}="):
                    return word.partition("=")[2]
        return None


@cache
def text(page: str) -> str:
    """A page as it is."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """What stands in blocks of code: between fences, or indented after an empty line."""
    found: list[str] = []
    fenced = False
    indent, before = "", ""  # the indentation of the block we are in
    for line in text(page).splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
            found.append("")
        elif fenced:
            found[-1] += line + "\n"
        else:
            inside = bool(indent) and (line.startswith(indent) or not line.strip())
            opening = line.startswith("    ") and not before.strip() and not inside
            indent = line[: len(line) - len(line.lstrip())] if opening else indent * inside
            if opening:
                found.append("")
            if indent:
                found[-1] += line + "\n"
        before = line
    return found


def commands(page: str) -> Iterator[Command]:
    """Every command of the page's blocks and of its inline code, pipes taken apart."""
    for block in blocks(page):
        script = _HEREDOC.sub("\n", re.sub(r"^ +", "", block, flags=re.MULTILINE))
        yield from _lines(page, re.sub(r"\\\n", " ", script))
    for inline in re.findall(r"`([^`\n]+)`", text(page)):
        yield from _lines(page, inline)


def _lines(page: str, script: str) -> Iterator[Command]:
    for prompted in script.splitlines():
        line = prompted.removeprefix("$ ")
        for assigned in re.findall(r"\$\((.*)\)", line):
            yield from _lines(page, assigned)
        try:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            words = list(lexer)
        except ValueError:  # a quote that is none: not a command
            continue
        yield from _piped(page, words)


def _piped(page: str, words: list[str]) -> Iterator[Command]:
    part: list[str] = []
    for word in [*words, "|"]:
        if word in {"|", "||", "&&", ";"}:
            if part:
                yield Command(page, tuple(part))
            part = []
        else:
            part.append(word)


def of_program(name: str, *further: str) -> list[Command]:
    """Every command that runs this program, on our pages and further ones."""
    return [one for page in (*PAGES, *further) for one in commands(page) if one.words[0] == name]


def overlay_of_the_reader() -> str:
    """The script that makes the reader's own overlay."""
    (script,) = (block for block in blocks("docs/deploy.md") if "mkdir -p deploy/k8s" in block)
    return "".join(f"{line.removeprefix('    ')}\n" for line in script.splitlines())


def exists(path: str) -> bool:
    """Whether a path of the checkout is there."""
    return Path(ROOT / path.rstrip("/.,")).exists()
