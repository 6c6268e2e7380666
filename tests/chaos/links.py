"""The links between the parts of a scene, each led through a proxy that can harm it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from forebay.local.ports import HOST, Ports
from forebay.testing.polling import until
from tests.e2e.callers import Callers

from .proxy import Fault
from .proxy_process import RemoteProxy, proxy_process
from .scene import Scene

WORKERS = ("search_worker", "crawler_worker", "llm_worker")
PARTS = {"ingress": ("ingress",), "workers": WORKERS, "reconciler": ("reconciler",)}
OUTSIDE = "callers - ingress"
NAMES = (
    OUTSIDE,
    *(f"{part} - {server}" for part in PARTS for server in ("MongoDB", "RabbitMQ")),
    "workers - providers",
)


PATIENCE_S = 12.0
"""Of a caller on the harmed link; a wait for a job takes 10."""


class HastyCallers(Callers):
    """Callers who ask again when no answer came for a while."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
        )
        return self


@dataclass(frozen=True)
class Link:
    """One link, over one proxy for each address that is reached through it."""

    name: str
    proxies: tuple[RemoteProxy, ...]

    def inject(self, fault: Fault) -> None:
        """Harm it."""
        for proxy in self.proxies:
            proxy.inject(fault)

    def clear(self) -> None:
        """Harm it no more."""
        for proxy in self.proxies:
            proxy.clear()

    @property
    def harmed(self) -> int:
        """How many bytes or connections the latest fault struck."""
        return sum(proxy.harmed for proxy in self.proxies)


class Links:
    """Every link of a scene, by name; the scene's processes use them once `rewire` is done."""

    def __init__(self, proxies: Mapping[str, RemoteProxy]) -> None:
        self._proxies = proxies
        self._ledger_path = Path()
        self.all = {
            name: Link(name, tuple(p for at, p in proxies.items() if at.partition("/")[0] == name))
            for name in NAMES
        }

    def callers(self, ingress_url: str, site_url: str, ledger_path: Path) -> Callers:
        """The scene's callers, who come over their link."""
        self._proxies[OUTSIDE].lead_to(HOST, _port(ingress_url))
        site = self._proxies["workers - providers/site"]
        site.lead_to(HOST, _port(site_url))
        self._ledger_path = ledger_path
        return self.fresh_callers()

    def fresh_callers(self) -> Callers:
        """Callers with connections of their own; on the same link, and in the same ledger."""
        outside = f"http://{HOST}:{self._proxies[OUTSIDE].port}"
        return HastyCallers(outside, self.site_url, self._ledger_path)

    @property
    def site_url(self) -> str:
        """The simulated web site, over the workers' link."""
        return f"http://{HOST}:{self._proxies['workers - providers/site'].port}"

    async def rewire(self, here: Scene) -> None:
        """Restart every process so that it reaches the others over its links."""
        stack = here.stack
        servers = {
            "MongoDB": _port(stack.servers.mongodb_url),
            "RabbitMQ": _port(stack.servers.amqp_url),
        }
        for part, processes in PARTS.items():
            ways = {port: self._proxies[f"{part} - {name}"] for name, port in servers.items()}
            # The ingress calls no site, but judges its address.
            ways[_port(stack.site_url)] = self._proxies["workers - providers/site"]
            if part == "workers":
                ways[_port(stack.providers_url)] = self._proxies["workers - providers"]
            for port, proxy in ways.items():
                proxy.lead_to(HOST, port)
            for process in processes:
                stack.tell(process, **_through(stack.told(process), ways))
        await asyncio.gather(*(_restart(here, name) for part in PARTS.values() for name in part))
        for link in self.all.values():
            # The others are used once there is something to do.
            if link.name.endswith(("MongoDB", "RabbitMQ")):
                assert all(proxy.open for proxy in link.proxies), f"{link.name} is not used"


@asynccontextmanager
async def linked(directory: Path, seed: int) -> AsyncIterator[Links]:
    """Proxies for every link, listening; they lead somewhere once there is a scene."""
    ports = Ports(lambda _: None)  # kept: they are ours as long as it lives
    places = (*NAMES, "workers - providers/site")
    taken = [ports.take(place) for place in places]
    control = ports.take("the proxies' control")
    async with proxy_process(directory, seed, control, taken) as proxies:
        yield Links(dict(zip(places, proxies, strict=True)))


def _through(told: Mapping[str, str], ways: Mapping[int, RemoteProxy]) -> dict[str, str]:
    """The settings that name one of these ports, with the proxy's in its place."""

    def other(found: re.Match[str]) -> str:
        proxy = ways.get(int(found[1]))
        return found[0] if proxy is None else f"{HOST}:{proxy.port}"

    changed = {
        name: re.sub(rf"{re.escape(HOST)}:(\d+)", other, value)
        for name, value in told.items()
        if name.startswith("FOREBAY_")
    }
    # The driver would ask the set for its members' own addresses, and pass the proxy by.
    mongodb = changed["FOREBAY_MONGODB_URL"].partition("?")[0]
    changed["FOREBAY_MONGODB_URL"] = f"{mongodb}?directConnection=true"
    return {name: value for name, value in changed.items() if value != told[name]}


async def _restart(here: Scene, name: str) -> None:
    before = here.stack.pids(name)
    here.stack.send(name, signal.SIGTERM)
    base = here.stack.probes.get(name, here.stack.ingress_url)

    async def ready() -> bool:
        if here.stack.pids(name) in {before, ()}:
            return False
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{base}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    await until(ready)


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, url
    return port
