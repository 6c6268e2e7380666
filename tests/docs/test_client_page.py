"""Every `forebay ...` of docs/client.md prints what the page shows, against the whole system."""

from __future__ import annotations

import re
import shlex

import pytest

from forebay.cli import NOT_SUCCEEDED
from forebay.local.stack import Stack
from tests.docs.commands import text
from tests.docs.test_examples import ID, ROOT
from tests.typed import typed

SHELL = re.findall(r"```console\n(.*?)```", text("docs/client.md"), re.DOTALL)


def squeezed(screen: str) -> list[str]:
    """Its lines; where a table breaks them is the terminal's business."""
    return [" ".join(line.split()) for line in screen.replace("\n ", " ").splitlines()]


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_every_command_prints_what_the_page_shows(stack: Stack) -> None:
    real: dict[str, str] = {}
    commands = [
        part.partition("\n") for part in re.split(r"^\$ ", SHELL[0], flags=re.MULTILINE)[1:]
    ]
    assert len(commands) > 5
    for command, _, shown in commands:
        words = shlex.split(ID.sub(lambda found: real[found[0]], command))
        words = [str(ROOT / word) if (ROOT / word).is_file() else word for word in words[1:]]
        printed = typed(*words, URL=stack.ingress_url)
        assert printed.code in {0, NOT_SUCCEEDED}, printed
        for mine, theirs in zip(ID.findall(shown), ID.findall(printed.out), strict=True):
            assert real.setdefault(mine, theirs) == theirs
        assert squeezed(ID.sub("ID", printed.out)) == squeezed(ID.sub("ID", shown)), command
