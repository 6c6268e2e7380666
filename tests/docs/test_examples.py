"""Every curl of the pages does what its page says, against the whole system.

An answer on a page is a part of the real one: each field it shows must be there with this value.
Ids and times are new on every run: an id stands for whatever id came in its place first.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forebay.local.stack import Stack

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/http-api.md", "docs/webhooks.md")
ID = re.compile(r"(?:job|batch|key|we|msg)_[0-9a-f]{32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Example:
    command: str
    answer: Any


def commands_of(page: str) -> list[tuple[str, str]]:
    """Each command of a page, and what it shows of the answer."""
    found = []
    text = (ROOT / page).read_text("utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            found.append((command, answer))
    return found


def examples(page: str) -> list[Example]:
    return [Example(command, understood(answer)) for command, answer in commands_of(page)]


def understood(answer: str) -> Any:
    """A JSON document, lines of them, server-sent events, a head, or nothing."""
    answer = answer.strip()
    if not answer:
        return None
    if answer.startswith("HTTP/"):
        lines = answer.splitlines()
        headers = [line.split(": ", 1) for line in lines[1:] if line]
        return {"status": lines[0].split()[1], **{n.lower(): v for n, v in headers}}
    if "event: " in answer:
        blocks = [
            dict(line.split(": ", 1) for line in b.splitlines()) for b in answer.split("\n\n")
        ]
        return [[b["event"], json.loads(b["data"])] for b in blocks if "event" in b]
    try:
        return json.loads(answer)
    except ValueError:
        return [json.loads(line) for line in answer.splitlines()]


@dataclass
class Reader:
    """Types the commands and compares; knows which id stands for which."""

    stack: Stack
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> Any:
        command = command.replace("http://127.0.0.1:8080", self.stack.ingress_url)
        command = command.replace("http://127.0.0.1:9081", self.stack.site_url)
        command = command.replace("http://127.0.0.1:9080", self.stack.providers_url)
        command = ID.sub(lambda found: self.ids[found[0]], command)
        done = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=40)
        return understood(done.stdout.decode())

    def compare(self, shown: Any, real: Any, where: str) -> None:
        if isinstance(shown, dict):
            assert isinstance(real, dict), where
            for key, value in shown.items():
                assert key in real, f"{where}/{key} is not in the answer"
                self.compare(value, real[key], f"{where}/{key}")
        elif isinstance(shown, list):
            assert len(shown) == len(real), where
            for n, (one, other) in enumerate(zip(shown, real, strict=True)):
                self.compare(one, other, f"{where}/{n}")
        elif isinstance(shown, str) and ID.search(shown):
            for mine, theirs in zip(ID.findall(shown), ID.findall(real), strict=True):
                assert self.ids.setdefault(mine, theirs) == theirs, where
            assert ID.sub("", shown) == ID.sub("", real), where
        elif isinstance(shown, str) and TIME.match(shown):
            assert TIME.match(real), where
        else:
            assert shown == real, where


def test_the_readme_shows_every_endpoint_a_beginner_needs() -> None:
    commands = "\n".join(example.command for example in examples("README.md"))
    assert commands.count("curl") >= 10
    for needed in ("/v1/search", "/v1/crawl", "/v1/llm", "/v1/jobs ", "?wait=", "/result"):
        assert needed in commands or needed == "/v1/llm", needed


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_every_curl_answers_as_its_page_shows(stack: Stack) -> None:
    for page in PAGES:
        reader = Reader(stack)
        for example in examples(page):
            reader.compare(example.answer, reader.run(example.command), example.command)


def test_a_wrong_answer_would_be_seen() -> None:
    reader = Reader(stack=None)  # type: ignore[arg-type]
    reader.compare(
        {"a": ["x"], "at": "2026-01-01T00:00:00Z"},
        {"a": ["x"], "at": "2027-01-01T00:00:00Z", "b": 1},
        "",
    )
    for shown in ({"a": ["y"]}, {"a": []}, {"c": 1}):
        with pytest.raises(AssertionError):
            reader.compare(shown, {"a": ["x"]}, "")
