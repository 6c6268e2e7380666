"""The rules of a Dockerfile, each a function from its text to what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Rule = Callable[[str], list[str]]
BASE = "${PYTHON_IMAGE}"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its continuation lines joined, and the stage it belongs to."""

    word: str
    rest: str
    stage: str


def instructions(text: str) -> Iterator[Instruction]:
    """Every instruction in order; comments are left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stage = ""
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            stage = rest.rpartition(" ")[2]
        yield Instruction(word.upper(), rest.strip(), stage)


def _final(text: str) -> set[str]:
    """The stages that nothing is made of: those that become images."""
    all_of = [one for one in instructions(text) if one.word == "FROM"]
    used = {one.rest.split(" ")[0] for one in all_of}
    used |= set(re.findall(r"--from=(\S+)", text))
    return {one.stage for one in all_of} - used


def _settings(text: str, stage: str, word: str) -> list[str]:
    """What a stage says with this word, after the stages that it stands on."""
    parents = {
        one.stage: one.rest.split(" ")[0] for one in instructions(text) if one.word == "FROM"
    }
    below = _settings(text, parents[stage], word) if parents.get(stage) in parents else []
    own = [one.rest for one in instructions(text) if (one.stage, one.word) == (stage, word)]
    return below + own


def unpinned_base(text: str) -> list[str]:
    """The default of PYTHON_IMAGE names a version and no registry; nothing else is started from."""
    defaults = [one.rest for one in instructions(text) if one.word == "ARG" and not one.stage]
    wrong = [
        one for one in defaults if not re.fullmatch(r"PYTHON_IMAGE=python:\d+\.\d+-[a-z-]+", one)
    ]
    stages = {one.stage for one in instructions(text) if one.word == "FROM"}
    bases = {one.rest.split(" ")[0] for one in instructions(text) if one.word == "FROM"}
    return wrong + sorted(bases - stages - {BASE}) + ([] if defaults else ["no PYTHON_IMAGE"])


def needs_buildkit(text: str) -> list[str]:
    """What only BuildKit understands."""
    return re.findall(r"--mount=\S+|<<\w+|--chmod=\S+|--link|^# *syntax=.*", text, re.MULTILINE)


def hides_the_command(text: str) -> list[str]:
    """An entry point, or a default process: that is chosen where it is run. Help is no process."""
    return [
        one.word
        for one in instructions(text)
        if one.word in {"ENTRYPOINT", "CMD", "HEALTHCHECK"} and one.rest != '["forebay", "--help"]'
    ]


def not_the_user(text: str) -> list[str]:
    """Every image ends as uid and gid 10001, by number: a cluster checks that it is not root."""
    return [
        stage
        for stage in sorted(_final(text))
        if _settings(text, stage, "USER")[-1:] != ["10001:10001"]
    ]


def installs_unchecked(text: str) -> list[str]:
    """Packages come with hashes; our own wheel comes from no index."""
    commands = [
        command.strip()
        for one in instructions(text)
        if one.word == "RUN"
        for command in one.rest.split("&&")
    ]
    return [
        command
        for command in commands
        if re.search(r"pip\S* .*\b(install|wheel)\b", command)
        and "--require-hashes" not in command
        and "--no-index" not in command
    ]


def copies_code_too_early(text: str) -> list[str]:
    """The layer of packages must not change with our code."""
    return [
        one.rest
        for one in instructions(text)
        if one.word == "COPY"
        and one.stage in {"packages", "locust", "base"}
        and not one.rest.startswith("requirements/")
    ]


def unlabeled(text: str) -> list[str]:
    """Every image says what it is and under which license."""
    return [
        f"{stage}: {name}"
        for stage in sorted(_final(text))
        for name in ("title", "description", "licenses")
        if f"org.opencontainers.image.{name}=" not in " ".join(_settings(text, stage, "LABEL"))
    ]


RULES: tuple[Rule, ...] = (
    unpinned_base,
    needs_buildkit,
    hides_the_command,
    not_the_user,
    installs_unchecked,
    copies_code_too_early,
    unlabeled,
)
