"""`make up`: the whole system until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path

from forebay.local.lock import only_one
from forebay.local.private_server import PrivateServer
from forebay.local.screen import say
from forebay.local.servers import Servers
from forebay.local.stack import Stack
from forebay.tasks import end

# These say where the servers are; the processes get their own logins for them.
_OF_SERVERS = frozenset(
    {
        "FOREBAY_AMQP_URL",
        "FOREBAY_MONGODB_IMAGE",
        "FOREBAY_MONGODB_URL",
        "FOREBAY_RABBITMQ_IMAGE",
        "FOREBAY_RABBITMQ_MANAGEMENT_URL",
        "FOREBAY_SERVERS",
    }
)
_INTERRUPTED = 130  # what a shell says of a command ended by Ctrl-C


async def up(directory: Path) -> None:
    """Start, show the addresses and stay; canceling it ends everything in order."""
    with only_one(directory):
        async with Stack(directory, env=_settings_of_the_caller()) as stack:
            for line in addresses(stack):
                say(line)
            await _keep(stack.servers)


async def _keep(found: Servers) -> None:
    """Start again what dies of our private servers, and say so; never returns."""
    private = [server for server in (found.rabbitmq, found.mongodb) if server is not None]
    keepers = [asyncio.create_task(_keep_one(server), name=server.name) for server in private]
    forever = asyncio.create_task(asyncio.Event().wait(), name="until Ctrl-C")
    try:
        done, _ = await asyncio.wait({forever, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end(forever, *keepers)


async def _keep_one(server: PrivateServer) -> None:
    while True:
        say(f"{server.name} ended ({await server.ended()}): starting it again on its data ...")
        await server.start()
        say(f"{server.name} is back.")


def addresses(stack: Stack) -> list[str]:
    """What a person needs to begin: where everything is, and a first request."""
    management = stack.endpoints()["rabbitmq_management"]
    login = f"   user {management['user']}, password {management['password']}"
    rows = {
        "API": f"{stack.ingress_url}   try {stack.ingress_url}/docs",
        "RabbitMQ management": f"{management['url']}{login}" if management["url"] else "not given",
        "MongoDB": stack.servers.mongodb_url.rpartition("@")[2],
        "simulated providers": f"{stack.providers_url}   calls so far: /_stats",
        "simulated web site": stack.site_url,
        **{f"{name} probes": f"{url}/metrics" for name, url in stack.probes.items()},
        "files": f"{stack.directory}/endpoints.json, processes.json, logs/",
    }
    width = max(map(len, rows))
    keys = stack.told("ingress").get("FOREBAY_INGRESS_AUTHENTICATION") == "keys"
    return [
        "",
        "Forebay is up.",
        *(f"  {name:<{width}}  {value}" for name, value in rows.items()),
        "",
        *(_first_key(stack.servers) if keys else ()),
        "A first job:",
        f"  curl -s {stack.ingress_url}/v1/search -H 'Content-Type: application/json' \\",
        *(('    -H "Authorization: Bearer $FOREBAY_API_KEY" \\',) if keys else ()),
        """    -d '{"query": "hydro power"}'""",
        "",
        "Ctrl-C ends it.",
    ]


def _first_key(found: Servers) -> list[str]:
    create = ".venv/bin/forebay keys create"
    # A store that was given is in the environment already, with its login.
    private = [f"  export FOREBAY_MONGODB_URL='{found.mongodb_url}'"] if found.mongodb else []
    return [
        "API keys are asked for. The first one:",
        *private,
        f"  export FOREBAY_API_KEY=$({create} --tenant me --name first --role admin)",
        "",
    ]


def run_until_stopped(work: Coroutine[None, None, int | None]) -> int:
    """Run to the end, or until SIGINT or SIGTERM; a second signal ends it without any order.

    Returns the work's own exit code, or 0 when it was asked to stop.
    """
    return asyncio.run(_until_stopped(work))


async def _until_stopped(work: Coroutine[None, None, int | None]) -> int:
    task = asyncio.ensure_future(work)
    asked: list[str] = []

    def stop(name: str) -> None:
        if asked:
            # The kernel ends every child with us.
            say(f"{name} again: ending at once.")
            os._exit(_INTERRUPTED)
        asked.append(name)
        say(f"\n{name}: ending everything; once more ends it without waiting.")
        task.cancel()

    loop = asyncio.get_running_loop()
    for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
        loop.add_signal_handler(number, stop, name)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if not asked:
            raise
        say("Nothing is left running.")
        return 0


def _settings_of_the_caller() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("FOREBAY_") and name not in _OF_SERVERS
    }
