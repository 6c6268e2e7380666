"""`make load`: locust's 500 callers against the running system, or against one started for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from forebay.local.environment import ROOT, base_environment
from forebay.local.errors import AlreadyUp
from forebay.local.lock import only_one
from forebay.local.screen import say
from forebay.local.stack import Stack

_SCENE = ("--headless", "--users", "500", "--spawn-rate", "500", "--run-time", "60s")
# Enough for a minute's figures; how fast work is digested is the providers' matter.
_CONCURRENCY = 200


async def load(directory: Path, arguments: Sequence[str]) -> int:
    """Run locust to its end; returns its exit code. Further arguments override the scene's."""
    results = ROOT / "loadtest" / "results"
    report = results / "load.html"
    ledger = os.environ.get("FOREBAY_LOAD_LEDGER") or str(results / "ledger.jsonl")
    async with _system(directory) as (ingress, site):
        command = [
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py")),
            *("--host", ingress, "--html", str(report)),
            *(*_SCENE, *arguments),
        ]
        env = base_environment() | {"FOREBAY_LOAD_SITE": site, "FOREBAY_LOAD_LEDGER": ledger}
        locust = await asyncio.create_subprocess_exec(*command, env=env, cwd=ROOT)
        try:
            code = await locust.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                locust.terminate()
            await locust.wait()
    say(f"Report: {report}; what callers were answered: {ledger} (see `forebay audit`)")
    return code


@contextlib.asynccontextmanager
async def _system(directory: Path) -> AsyncIterator[tuple[str, str]]:
    """Addresses of ingress and site: of the system that is up, or of one for this run."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(only_one(directory))
        except AlreadyUp:
            endpoints = json.loads((directory / "endpoints.json").read_text())
            say(f"Using the system that is up at {endpoints['ingress']}.")
            yield endpoints["ingress"], endpoints["site"]
            return
        async with Stack(directory, concurrency=_CONCURRENCY) as stack:
            yield stack.ingress_url, stack.site_url
