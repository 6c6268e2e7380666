"""The Dockerfiles as texts: linted, and by our own rules. Each rule is shown a breach as well."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.image import dockerfile

ROOT = Path(__file__).parents[3]
TOOLS = Path(sys.executable).parent
STAND_INS = ROOT / "tests" / "deploy" / "images"
TEXT = (ROOT / "Dockerfile").read_text()


def tool(name: str, *arguments: str | Path) -> str:
    """What a linter of the environment says; empty when it is content."""
    command = [str(TOOLS / name), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    said = ended.stdout + ended.stderr
    return said or ("" if ended.returncode == 0 else f"exit {ended.returncode}")


@pytest.mark.parametrize(
    "path",
    [ROOT / "Dockerfile", *sorted(STAND_INS.glob("*/Dockerfile"))],
    ids=lambda path: path.parent.name,
)
def test_hadolint_finds_nothing(path: Path) -> None:
    assert not tool("hadolint", path)


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    planted = tmp_path / "Dockerfile"
    planted.write_text("FROM python\nRUN pip install x\n")
    assert "DL3006" in tool("hadolint", planted)


def test_shellcheck_finds_nothing_in_the_script_of_the_stand_ins() -> None:
    assert not tool("shellcheck", STAND_INS / "make.sh")


@pytest.mark.parametrize("rule", dockerfile.RULES, ids=lambda rule: rule.__name__)
def test_the_dockerfile_keeps_the_rule(rule: dockerfile.Rule) -> None:
    assert not rule(TEXT)


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        (dockerfile.unpinned_base, r"python:\d\S+", "python:latest"),
        (dockerfile.unpinned_base, r"python:\d\S+", "registry.example.com/python:3.13-slim"),
        (dockerfile.unpinned_base, r"FROM \$\{PYTHON_IMAGE\} AS base", "FROM debian:13 AS base"),
        (dockerfile.needs_buildkit, r"RUN python3", "RUN --mount=type=cache,target=/x python3"),
        (
            dockerfile.hides_the_command,
            r"USER 10001:10001",
            'USER 10001:10001\nENTRYPOINT ["python"]',
        ),
        (dockerfile.hides_the_command, r"--help", "version"),
        (dockerfile.not_the_user, r"USER 10001:10001", "USER forebay"),
        (dockerfile.not_the_user, r"FROM runtime AS load", "FROM runtime AS load\nUSER 0"),
        (dockerfile.installs_unchecked, r"--require-hashes", ""),
        (
            dockerfile.copies_code_too_early,
            r"COPY requirements/runtime",
            "COPY services /s\nCOPY requirements/r",
        ),
        (dockerfile.unlabeled, r"org.opencontainers.image.licenses", "x"),
    ],
)
def test_a_breach_of_the_rule_is_seen(rule: dockerfile.Rule, kept: str, broken: str) -> None:
    planted, count = re.subn(kept, lambda _: broken, TEXT)
    assert count
    assert rule(planted)


def test_the_base_has_a_python_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-", TEXT, re.MULTILINE)
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_only_what_is_named_reaches_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    named = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.partition("/")[0]
        for one in dockerfile.instructions(TEXT)
        if one.word == "COPY" and "--from=" not in one.rest
        for source in one.rest.split()[:-1]
    }
    assert named == copied


def pins(lock: str) -> dict[str, str]:
    """Each package of a lock file with its version."""
    text = (ROOT / "requirements" / lock).read_text()
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_locust_is_tested_in_the_version_that_its_image_has() -> None:
    image, tested = pins("load.txt"), pins("dev.txt")
    assert image["locust"]
    assert {name: tested.get(name) for name in image} == image
