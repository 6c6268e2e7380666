"""The whole system: servers, topology, simulated outside world, our processes.

async with Stack(Path(".run")) as stack:
stack.ingress_url, stack.providers_url, stack.pids("llm_worker")
stack.kill("llm_worker")   # SIGKILL; it is restarted
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from forebay.local.environment import (
    PREFIXES,
    ROOT,
    VHOST,
    Addresses,
    Crew,
    Told,
    World,
    kept_passwords,
    with_login,
)
from forebay.local.ports import Ports
from forebay.local.processes import Supervisor, write_json
from forebay.local.screen import say
from forebay.local.servers import Servers, servers
from forebay.local.together import together

DEFAULT_CONCURRENCY = 40


class Stack:
    """Entered means ready: every process answers its probe. Leaving ends everything.

    Args:
        directory: for `endpoints.json`, `processes.json`, `provider-calls.jsonl` and logs.
        env: settings for all our processes, over those of the stack.
        concurrency: calls in flight at most in each worker: one number, or one for each kind.
        world: how the simulated providers behave.
        crew: how many of each process, and how soon a dead one is back.
        data: where private servers keep their data; `directory/data` if not said.
    """

    def __init__(
        self,
        directory: Path,
        env: Mapping[str, str] | None = None,
        concurrency: int | Mapping[str, int] = DEFAULT_CONCURRENCY,
        world: World = World(),
        crew: Crew = Crew(),
        data: Path | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self._env = dict(env or {})
        self._concurrency = (
            dict.fromkeys(PREFIXES, concurrency)
            if isinstance(concurrency, int)
            else dict.fromkeys(PREFIXES, DEFAULT_CONCURRENCY) | dict(concurrency)
        )
        self._world = world
        self._crew = crew
        self._data = (data or directory / "data").resolve()
        self._open = contextlib.AsyncExitStack()
        self._ports: Ports
        self._told: Told
        self._supervisor: Supervisor

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as opening:
            await self._start(opening)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    @property
    def servers(self) -> Servers:
        """The broker and the store."""
        return self._told.servers

    @property
    def ingress_url(self) -> str:
        """The HTTP API; of several the first."""
        return self._told.addresses.ingress

    @property
    def ingress_urls(self) -> Mapping[str, str]:
        """Every ingress by its process name."""
        return self._told.addresses.ingresses

    @property
    def providers_url(self) -> str:
        """The simulated APIs, with `/_stats` and `/_calls`."""
        return self._told.addresses.providers

    @property
    def site_url(self) -> str:
        """The simulated web site."""
        return self._told.addresses.site

    @property
    def probes(self) -> Mapping[str, str]:
        """The probe address of each worker and of the reconciler, by process name."""
        return self._told.addresses.probes

    @property
    def concurrency(self) -> Mapping[str, int]:
        """The bound of each kind's worker."""
        return self._told.concurrency_in_force()

    def pids(self, name: str) -> tuple[int, ...]:
        """The ids of the processes of that name; empty while it is being restarted."""
        return self._supervisor.pids(name)

    def kill(self, name: str) -> None:
        """SIGKILL a process; the supervisor restarts it."""
        self._supervisor.send(name)

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process; if it ends, the supervisor restarts it."""
        self._supervisor.send(name, number)

    def tell(self, name: str, **env: str) -> None:
        """Settings of one process from its next start on, in place of those told before."""
        self._supervisor.tell(name, env)

    def told(self, name: str) -> Mapping[str, str]:
        """Everything that process is told at its next start; passwords are among it."""
        return self._supervisor.told(name)

    def endings(self, name: str) -> Sequence[str]:
        """How that process ended so far, in words: `exit code 0`, `SIGKILL`."""
        return self._supervisor.endings(name)

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self._supervisor.log(name)

    def endpoints(self) -> dict[str, Any]:
        """What `endpoints.json` holds; it has passwords and is readable by its owner only."""
        management = urlsplit(self.servers.management_url)
        amqp = self.servers.amqp_url
        if management.netloc:
            login = (management.username or "", management.password or "")
            amqp = with_login(amqp, *login, f"/{VHOST}")
        return {
            "ingress": self.ingress_url,
            "amqp": amqp,
            "mongodb": self.servers.mongodb_url,
            "providers": self.providers_url,
            "site": self.site_url,
            "rabbitmq_management": {
                "url": with_login(self.servers.management_url, "", "", ""),
                "user": unquote(management.username or ""),
                "password": unquote(management.password or ""),
            },
            "probes": dict(self.probes),
        }

    async def _start(self, opening: contextlib.AsyncExitStack) -> None:
        # Kept, because the ports are ours as long as it lives.
        self._ports = ports = Ports()
        # Memorable ports first: the servers take what is left.
        addresses = Addresses.choose(ports, self._crew)
        found = await opening.enter_async_context(servers(self._data, ports=ports))
        passwords = kept_passwords(self._data / "passwords.json")
        self._told = Told(found, addresses, self._concurrency, self._env, passwords)
        supervisor = Supervisor(self.directory, ROOT, pauses_s=self._crew.pauses_s)
        self._supervisor = await opening.enter_async_context(supervisor)
        say("Starting our processes ...")
        await together(self._start_providers(), self._apply_topology())
        # Together: each waits by itself for what it needs.
        await supervisor.start(*self._told.ingresses(), *self._told.probed())
        opening.callback((self.directory / "endpoints.json").unlink, missing_ok=True)
        write_json(self.directory / "endpoints.json", self.endpoints())

    async def _start_providers(self) -> None:
        calls = self.directory / "provider-calls.jsonl"
        calls.unlink(missing_ok=True)
        await self._supervisor.start(self._told.providers(self._world, calls))

    async def _apply_topology(self) -> None:
        if self.servers.management_url:
            await self._supervisor.run_once(self._told.topology())
        else:
            say(
                "FOREBAY_RABBITMQ_MANAGEMENT_URL is not set: the broker's topology is taken as it "
                "is (`forebay topology apply` makes it)."
            )
