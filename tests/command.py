"""`forebay ...` as a process, for tests."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import IO

from tests.ingress_process import environment


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended, and what it said."""

    code: int
    out: str
    err: str


async def begin(
    *words: str, stdin: IO[bytes] | None = None, **settings: str
) -> asyncio.subprocess.Process:
    """Start it; settings without their prefix."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "forebay.cli", *words,
        env=environment(**settings), stdin=stdin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> Ended:
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def forebay(*words: str, **settings: str) -> Ended:
    """Run it to its end."""
    return await ended(await begin(*words, **settings))
