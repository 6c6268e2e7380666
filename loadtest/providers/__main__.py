"""Run the simulators as a process: `python -m loadtest.providers --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from loadtest.providers.behaviour import PROFILES
from loadtest.providers.world import Providers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.providers", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="of the APIs; 0 takes any free port")
    parser.add_argument("--site-port", type=int, default=0, help="of the web site; 0 likewise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="demo")
    parser.add_argument("--log", type=Path, default=None, help="append calls as JSON lines")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    world = Providers(
        profile=arguments.profile,
        seed=arguments.seed,
        host=arguments.host,
        ports=(arguments.port, arguments.site_port),
        log_path=arguments.log,
    )
    async with world:
        addresses = {"providers": world.providers_url, "site": world.site_url}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        await ended.wait()


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns 1 with a sentence when a port is in use."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(_arguments()))
    except OSError as error:
        sys.stderr.write(f"The simulated providers could not start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
