"""`python -m forebay.local up | demo | load | prepare`; exit 0 done, 1 failed, 2 already up."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path

from forebay.local.demo import demo
from forebay.local.environment import ROOT
from forebay.local.errors import AlreadyUp, LocalStackError
from forebay.local.load import load
from forebay.local.mongodb import find_mongod
from forebay.local.packages import ensure_machine_servers
from forebay.local.screen import say
from forebay.local.servers import Origin, choose
from forebay.local.up import run_until_stopped, up


async def prepare() -> None:
    """Install what private servers need, so that nothing later waits for it.

    Tests that break a server have their own, also where the shared ones are in Docker or given;
    there it is said what is missing, and the other tests run.
    """
    origin, _ = await choose(os.environ)
    try:
        await ensure_machine_servers(find_mongod(), say)
    except LocalStackError as error:
        if origin is Origin.MACHINE:
            raise
        say(f"Tests that stop a server will fail: {error}")


def _work(verb: str, directory: Path, rest: Sequence[str]) -> Coroutine[None, None, int | None]:
    match verb:
        case "up":
            return up(directory)
        case "demo":
            return demo(directory)
        case "load":
            return load(directory, rest)
        case _:
            return prepare()


def main() -> int:
    """Do what the first argument says; what is not known here goes to locust."""
    parser = argparse.ArgumentParser(prog="python -m forebay.local", description=__doc__)
    parser.add_argument("verb", choices=("up", "demo", "load", "prepare"))
    parser.add_argument("--directory", type=Path, default=ROOT / ".run")
    arguments, rest = parser.parse_known_args()
    if rest and arguments.verb != "load":
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        return run_until_stopped(_work(arguments.verb, arguments.directory, rest))
    except AlreadyUp as error:
        say(str(error))
        return 2
    except LocalStackError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
