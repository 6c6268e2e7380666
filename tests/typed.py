"""`forebay ...` in this process, for tests: the same without the second that a process costs."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from forebay.cli.verbs import run
from tests.command import Ended


def typed(*words: str, stdin: str = "", **settings: str) -> Ended:
    """Type it, wait for its end; settings without their prefix. Not inside a running loop."""
    out, err, given = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(3))
    given.write(stdin)
    given.seek(0)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", given)
        for name, value in settings.items():
            patch.setenv(f"FOREBAY_{name}", value)
        try:
            run(words)
        except SystemExit as end:
            code = end.code
    for stream in (out, err):
        stream.seek(0)
    return Ended(code if isinstance(code, int) else 0, out.read(), err.read())
